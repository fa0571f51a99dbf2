"""Engine builders: a rendered canonical graph in, an engine and what it really is out.

`build_engine` chooses the builder by the target's backend: `cpu.py` for ONNX Runtime, `rtx.py` for
TensorRT-RTX. Each reads the precisions back from what it built (`optimised_graph.py`,
`plan_text.py`) and refuses an engine in which they are not those of the graph; see `engine.py`.
"""

import onnx

from ...core import Precision, Target, UnsupportedTargetError, require
from . import cpu, rtx
from .engine import Engine

__all__ = ["Engine", "build_engine", "check_buildable"]

_BUILDERS = {"onnxruntime": cpu.build, "tensorrt_rtx": rtx.build}


def build_engine(model: onnx.ModelProto, target: Target, precision: Precision) -> Engine:
    """Build the engine of `model` for `target`.

    Args:
        model: canonical graph, already rendered at `precision` (Q/DQ and casts in place) in the
            style of the target's backend; `maskrt` nodes still in it. It is not changed.
        target: where the engine is to run.
        precision: what the graph was rendered at.

    Raises:
        UnsupportedTargetError: no builder for the target, or its backend does not take the graph.
        MissingDependencyError: the backend is not installed.
        PrecisionError: the finished engine does not compute in what was asked for.
    """
    check_buildable(target)
    return _BUILDERS[target.backend](model, target, precision)


def check_buildable(target: Target) -> None:
    """Refuse a target that cannot be built for, before any work is put into its graph.

    Raises:
        UnsupportedTargetError: no builder for the target.
        MissingDependencyError: the backend is not installed.
    """
    if target.backend not in _BUILDERS:
        raise UnsupportedTargetError(
            f"target {target.name} needs full TensorRT, which this version of maskrt does not "
            "build for: choose target cpu or rtx."
        )
    require(target.backend, f"build for target {target.name}")
