"""Explaining a check: attribution of the AP lost, and divergence of the layers, for one engine."""

import contextlib
from pathlib import Path
from typing import Any

import onnx

from .. import calib
from ..core import Bundle, Precision, Progress, Target, silent
from ..core.bundle import MODEL, RECIPE
from ..runtime import letterbox_batches
from ..runtime.backends import open_backend, open_engine
from ..runtime.build import build_engine
from ..runtime.build.marked import mark_outputs
from ..runtime.check import CocoDataset
from ..runtime.possible import is_measurable
from ..runtime.trust import Trust
from .attribution import attribute_loss
from .divergence import Run, layer_tensors, measure_divergence
from .references import pytorch_backend

__all__ = ["explain", "explain_layers"]

_DIVERGENCE_PICTURES = 4


def explain(
    bundle: Bundle,
    dataset: CocoDataset,
    target: Target,
    precision: Precision,
    *,
    weights: Path | str | None = None,
    words: str | None = None,
    trust: Trust = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Return `attribution` and `divergence` for a report.

    `words` name the PyTorch model, and `trust` is as in `maskrt.load`.
    """
    model = onnx.load_model_from_string(bundle.read(MODEL))
    open_reference = None if weights is None else lambda: pytorch_backend(bundle, weights, words)
    return {
        "divergence": explain_layers(bundle, model, dataset, target, precision),
        "attribution": attribute_loss(
            bundle,
            model,
            dataset,
            target=target,
            precision=precision,
            open_engine=lambda: open_backend(bundle, target, precision, trust=trust),
            open_reference=open_reference,
            progress=progress,
        ),
    }


def explain_layers(
    bundle: Bundle,
    model: onnx.ModelProto,
    dataset: CocoDataset,
    target: Target,
    precision: Precision,
) -> dict[str, Any] | None:
    """Return the divergence of the engine's layers on a few pictures; None where all are FP32.

    A CPU engine is itself an ONNX graph and is measured as it is. For other targets it is the graph
    that their builder is given, run by ONNX Runtime; where this machine can run the target, what
    adds up from layer to layer is measured in an engine built from it with marked outputs.
    """
    recipe = calib.Recipe.from_json(bundle.read_json(RECIPE))
    if precision is not recipe.precision:
        recipe = recipe.with_precision(precision)
    if precision in (Precision.BF16, Precision.FP8):
        return None  # ONNX Runtime cannot run what their builders are given
    if all(choice.precision is Precision.FP32 for choice in recipe.layers.values()):
        return None
    if target.backend == "onnxruntime":
        folder = bundle.engine_folder(target, precision)
        rendered = onnx.load_model_from_string(bundle.read(f"{folder}/engine.onnx"))
    else:
        recipe = calib.recipe_for(model, recipe, target)
        rendered = calib.render(model, recipe, calib.Style.TENSORRT)
    # What was suited to TensorRT-RTX may have no INT8 left: each layer is held to its own.
    held = Precision.MIXED if target.backend == "tensorrt_rtx" else precision
    run: Run | None = None
    pictures = [image.path for image in dataset.images[:_DIVERGENCE_PICTURES]]
    batches = (canvases for canvases, _ in letterbox_batches(pictures, bundle.manifest.input))
    with contextlib.ExitStack() as opened:
        if target.backend != "onnxruntime" and is_measurable(target):
            marked = mark_outputs(rendered, layer_tensors(model, rendered))
            engine = build_engine(marked, target, held)
            run = opened.enter_context(open_engine(engine.files, engine.info, target)).run
        plain = calib.equalised(model, recipe)
        return measure_divergence(plain, rendered, recipe, batches, run=run)
