"""What an engine for another target will compute, evaluated exactly on this CPU.

The recipe is rendered as that target's builder gets it (explicit Q/DQ for TensorRT, with INT8 where
it pays for TensorRT-RTX), and `runtime/build/exact.py` has ONNX Runtime multiply and add the same
integers as the target's kernels. So the precisions, grids and rounding places are the target's;
FP32 and FP16 arithmetic, whose sums depend on the order of their terms, is the CPU's.
"""

import onnx

from .. import calib
from ..calib.cost import machine_of
from ..core import Bundle, Precision, Target, UnsupportedTargetError, UsageError
from ..core.bundle import MODEL, RECIPE
from ..runtime import Session
from ..runtime.backends.cpu import CpuBackend
from ..runtime.build.exact import exact_graph

__all__ = ["foretold_graph", "foretold_session", "recipe_for"]

_EVALUATED = (Precision.FP32, Precision.FP16, Precision.INT8, Precision.MIXED)


def recipe_for(model: onnx.ModelProto, recipe: calib.Recipe, target: Target) -> calib.Recipe:
    """Return the recipe that the target's engine is rendered from: INT8 where it pays there."""
    if target.backend != "tensorrt_rtx" or not recipe.narrow_layers():
        return recipe
    return calib.suit_tensorrt_rtx(model, recipe, machine_of(target))


def foretold_graph(model: onnx.ModelProto, recipe: calib.Recipe, target: Target) -> bytes:
    """Return the graph of a target's engine for `CpuBackend(exact=True)`.

    Args:
        model: the canonical FP32 graph.
        recipe: of the bundle, at FP32, FP16, INT8 or mixed.
        target: any.
    """
    style = calib.Style.ORT if target.backend == "onnxruntime" else calib.Style.TENSORRT
    return exact_graph(calib.render(model, recipe_for(model, recipe, target), style))


def foretold_session(bundle: Bundle, target: Target, precision: Precision | None) -> Session:
    """Open what an engine of the bundle would compute on a target, on this CPU.

    The session's target and precision are that engine's; the engine need not be in the bundle.

    Raises:
        UnsupportedTargetError: the precision is BF16 or FP8, or the target has none of it.
        UsageError: mixed, of a bundle that is not.
    """
    recipe = None
    asked = precision or bundle.manifest.precision
    if asked not in _EVALUATED:
        raise UnsupportedTargetError(
            f"{asked.value.upper()} cannot be evaluated on this CPU: choose "
            f"{', '.join(p.value for p in _EVALUATED)}, or check the engine on its device."
        )
    target.check_computes(asked)
    model = onnx.load_model_from_string(bundle.read(MODEL))
    if asked is Precision.FP32:
        graph = exact_graph(model)
    else:
        recipe = calib.Recipe.from_json(bundle.read_json(RECIPE))
        if recipe.precision is not asked:
            if asked is Precision.MIXED:
                raise UsageError(
                    f"the bundle is {recipe.precision} and not mixed: leave out the precision."
                )
            recipe = recipe.with_precision(asked)
        graph = foretold_graph(model, recipe, target)
    manifest = bundle.manifest
    return Session(
        CpuBackend(graph, exact=True),
        manifest.input,
        class_names=manifest.class_names,
        mask_frame=manifest.mask_frame,
        mask_paste=manifest.mask_paste,
        target=target,
        precision=asked,
    )
