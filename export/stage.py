"""The export stage: MODEL → canonical ONNX, its manifest, and the FP32 reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from torch import nn

from ..core import InputSpec, Manifest, UsageError
from ..core.graph_size import check_graph_size
from ..core.masks import MaskFrame, MaskPaste
from .asked import check_reference
from .families.family import Family, Reference
from .families.registry import family_of
from .source import load_source
from .trace import trace

__all__ = ["Export", "Reference", "export_model", "load_reference"]


@dataclass(frozen=True)
class Export:
    """What the export stage hands on.

    Attributes:
        model: the canonical FP32 model.
        manifest: describes it; its `fidelity` is still empty.
        reference: the PyTorch model it came from.
    """

    model: onnx.ModelProto
    manifest: Manifest
    reference: Reference


def export_model(
    model: str | nn.Module,
    *,
    weights: Path | str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, int],
    batch: int = 1,
    class_names: Sequence[str] | None = None,
    paste: MaskPaste | None = None,
) -> Export:
    """Export `model` to canonical ONNX.

    Args:
        model: MODEL; see `export/source.py`. A module is left as it was.
        weights: `.safetensors`, a checkpoint of PyTorch, or a `.pkl` of arrays.
        num_classes: background included; None takes it from the weights.
        input_size: `(height, width)` in pixels, any from 32 to 8192.
        batch: pictures a call.
        class_names: one a label, background included, if the weights do not tell.
        paste: how masks over boxes come into the picture; None is the model's own way.

    Raises:
        UsageError, InputError: the arguments or weights are wrong.
        UnsupportedModelError: no family exports such a model, a layer has no ONNX form, or it has
            more weights than a graph holds.
    """
    height, width = input_size
    InputSpec(height, width, batch)  # refuse bad sizes before anything is loaded
    source = load_source(model, weights=weights, num_classes=num_classes)
    family = family_of(source.model)
    check_graph_size(sum(4 * weight.numel() for weight in source.model.parameters()), "the model")
    spec = InputSpec(height, width, batch, family.pad_value(source.model))
    module: Any = family.graph(source.model, spec)
    _check_paste(paste, family.mask_frame(source.model), module.output_names)
    canonical = trace(module, spec, module.output_names)
    names = tuple(class_names) if class_names is not None else source.class_names
    _check_names(names, family, source.model)
    classes = family.num_classes(source.model)
    about = source.about if classes is None else {**source.about, "labels": classes - 1}
    manifest = Manifest(
        family.name, spec, _shapes(canonical), names, source=about,
        mask_frame=family.mask_frame(source.model),
        mask_paste=paste or family.mask_paste(source.model),
    )  # fmt: skip
    return Export(canonical, manifest, family.reference(source.model, spec))


def load_reference(manifest: Manifest, weights: Path | str, model: str | None = None) -> Reference:
    """Rebuild the PyTorch model that a bundle was compiled from.

    Args:
        manifest: the bundle's.
        weights: the very file that the bundle was compiled from.
        model: the words for the model if the user says them; None takes the manifest's, of which
            only `torchvision:` and `maskrt:` are followed: a bundle may come from anybody.

    Raises:
        InputError: another file, or a bundle whose model was not given by name.
        UsageError: the manifest names other code, and the user did not.
    """
    words = check_reference(manifest, weights, model)
    rebuilt = load_source(words, weights=weights).model
    return family_of(rebuilt).reference(rebuilt, manifest.input)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    return {
        output.name: tuple(d.dim_value for d in output.type.tensor_type.shape.dim)
        for output in model.graph.output
    }


def _check_paste(asked: MaskPaste | None, frame: MaskFrame, outputs: Sequence[str]) -> None:
    over_boxes = "masks" in outputs and frame is MaskFrame.BOX
    if asked is not None and not over_boxes:
        raise UsageError(
            f"paste is {asked}, and the model has no masks over boxes, which alone are pasted: "
            "leave it out."
        )


def _check_names(names: tuple[str, ...] | None, family: Family, model: nn.Module) -> None:
    classes = family.num_classes(model)
    if names is not None and classes is not None and len(names) != classes:
        raise UsageError(
            f"class_names has {len(names)} names, and the model {classes} classes, background "
            "included."
        )
