"""What an engine for another target will compute, evaluated exactly on this CPU.

The recipe is rendered as that target's builder gets it (explicit Q/DQ for TensorRT, with INT8 where
it pays for TensorRT-RTX), and `runtime/build/exact.py` has ONNX Runtime multiply and add the same
integers as the target's kernels. So the precisions, grids and rounding places are the target's;
FP32 and FP16 arithmetic, whose sums depend on the order of their terms, is the CPU's.
"""

from typing import Any

import numpy as np
import onnx

from .. import calib
from ..calib.bundled import read_model, read_recipe
from ..core import Bundle, Instances, Precision, Progress, Target, UnsupportedTargetError
from ..runtime import Session, open_session
from ..runtime.backends.cpu import CpuBackend
from ..runtime.build.exact import exact_graph
from ..runtime.check import Agreement, CocoDataset, CocoImage, Recorder
from .references import bare_session, evaluate_session
from .runs import Ran, Reference, RunRequest, find_reference
from .worst import Worst

__all__ = ["foretold_graph", "foretold_session", "run_as"]

_EVALUATED = (Precision.FP32, Precision.FP16, Precision.INT8, Precision.MIXED)


def foretold_graph(model: onnx.ModelProto, recipe: calib.Recipe, target: Target) -> bytes:
    """Return the graph of a target's engine for `CpuBackend(exact=True)`.

    Args:
        model: the canonical FP32 graph.
        recipe: of the bundle, at FP32, FP16, INT8 or mixed.
        target: any.
    """
    style = calib.Style.ORT if target.backend == "onnxruntime" else calib.Style.TENSORRT
    return exact_graph(calib.render(model, calib.recipe_for(model, recipe, target), style))


def foretold_session(bundle: Bundle, target: Target, precision: Precision | None) -> Session:
    """Open what an engine of the bundle would compute on a target, on this CPU.

    The session's target and precision are that engine's; the engine need not be in the bundle.

    Raises:
        UnsupportedTargetError: the precision is BF16 or FP8, or the target has none of it.
        UsageError: mixed, of a bundle that is not.
    """
    asked = precision or bundle.manifest.precision
    if asked not in _EVALUATED:
        raise UnsupportedTargetError(
            f"{asked.value.upper()} cannot be evaluated on this CPU: choose "
            f"{', '.join(p.value for p in _EVALUATED)}, or check the engine on its device."
        )
    target.check_computes(asked)
    model = read_model(bundle)
    if asked is Precision.FP32:
        graph = exact_graph(model)
    else:
        graph = foretold_graph(model, read_recipe(bundle, asked), target)
    return bare_session(
        CpuBackend(graph, exact=True), bundle.manifest, target=target, precision=asked
    )


def run_as(request: RunRequest, progress: Progress) -> Ran:
    """Evaluate what a target's engine will compute, and hold the engine for `cpu` against it.

    A `Run`; there is no best target to foretell, so `request.target` is not None.
    """
    assert request.target is not None
    bundle, dataset, place = request.bundle, request.dataset, Target.parse(request.target)
    wanted = None if request.precision is None else Precision.parse(request.precision)
    agreement, beside, worst = Agreement(), Agreement(), Worst(dataset)
    with foretold_session(bundle, place, wanted) as session:
        reference = find_reference(bundle, dataset, request.weights, progress)
        engine = _engine_beside(bundle, dataset, wanted, progress)
        names = session.class_names

        def seen(entry: CocoImage, image: np.ndarray, found: Instances) -> None:
            expected = reference.results.of(entry.id, names)
            compared = agreement.add(expected, found)
            worst.add(entry, lambda: image, expected, found, compared)
            if engine is not None:
                beside.add(found, engine.results.of(entry.id, names))

        found = evaluate_session(session, dataset, f"as {place.name}", progress, seen=seen)
        asked, about = session.precision, session.describe()
    assert asked is not None
    foretold: dict[str, Any] = {"evaluated": "exactly, on the CPU", "engine": None}
    if engine is not None:
        foretold |= {
            "engine": engine.name,
            "metrics": engine.evaluator.metrics(),
            "agreement": beside.summary(names),
        }
    return Ran(
        place, asked, about, found.images, found.evaluator, found.latency_ms, reference, agreement,
        worst, foretold,
    )  # fmt: skip


def _engine_beside(
    bundle: Bundle, dataset: CocoDataset, precision: Precision | None, progress: Progress
) -> Reference | None:
    """Run the bundle's engine for `cpu`; None if it has none of that precision."""
    folder = bundle.engine_folder(Target.parse("cpu"), precision)
    if f"{folder}/engine.json" not in bundle:
        return None
    recorder = Recorder()
    with open_session(bundle, "cpu", precision) as session:
        found = evaluate_session(
            session, dataset, "check cpu", progress,
            seen=lambda entry, _, instances: recorder.add(entry.id, instances),
        )  # fmt: skip
    return Reference("cpu", recorder.finish("cpu", ""), found.evaluator)
