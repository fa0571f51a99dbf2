"""Engine builders: a rendered canonical graph in, an engine and what it really is out.

`build_engine` chooses the builder by the target's backend: `cpu.py` for ONNX Runtime, `rtx.py` for
TensorRT-RTX, `tensorrt.py` for full TensorRT. Each reads the precisions back from what it built
(`optimised_graph.py`, `plan_text.py`, `inspected.py`) and refuses an engine in which they are not
those of the graph; see `engine.py`. A target of full TensorRT that this machine is not is prepared
instead (`prepare.py`): `is_buildable` tells which.
"""

from collections.abc import Collection

import onnx

from ...core import Precision, Target, UnsupportedTargetError, require
from . import cpu, rtx, tensorrt
from .engine import Engine
from .options import BuildOptions
from .prepare import prepare
from .tensorrt8 import WeakTypes
from .worker import Step, no_step

__all__ = [
    "BuildOptions", "Engine", "WeakTypes", "build_engine", "check_buildable", "is_buildable",
    "prepare",
]  # fmt: skip

_BUILDERS = {
    "onnxruntime": cpu.build,
    "tensorrt_rtx": rtx.build,
}


def build_engine(
    model: onnx.ModelProto,
    target: Target,
    precision: Precision,
    options: BuildOptions | None = None,
    step: Step = no_step,
    *,
    accelerated: Collection[str] = (),
) -> Engine:
    """Build the engine of `model` for `target`.

    Args:
        model: canonical graph, already rendered at `precision` (Q/DQ and casts in place) in the
            style of the target's backend; `maskrt` nodes still in it. It is not changed.
        target: where the engine is to run.
        precision: what the graph was rendered at.
        options: how to build; None is what suits the target.
        step: told how far the build is, where the builder says.
        accelerated: names of the nodes for the DLA, where the options ask for one.

    Raises:
        UnsupportedTargetError: no builder for the target, or it does not take the graph or an
            option.
        MissingDependencyError: the backend is not installed.
        PrecisionError: the finished engine does not compute in what was asked for.
    """
    check_buildable(target)
    if not is_buildable(target):
        if options is not None and options.here:
            tensorrt.refuse_here(model, target)
        raise UnsupportedTargetError(
            f"target {target.name} is built on its own device, which this machine is not: prepare "
            f"it here, and run maskrt build --target {target.name} there."
        )
    if target.backend == "tensorrt":
        return tensorrt.build(model, target, precision, options, step, accelerated)
    return _BUILDERS[target.backend](model, target, precision, options, step)


def check_buildable(target: Target) -> None:
    """Refuse a target that can neither be built nor prepared, before any work is done for it.

    Raises:
        UnsupportedTargetError: it is this machine's own GPU, and there is none.
        MissingDependencyError: the backend is not installed.
    """
    if target.backend != "tensorrt":
        require(target.backend, f"build for target {target.name}")
    elif not target.is_jetson and not is_buildable(target):
        raise UnsupportedTargetError(
            f"target {target.name} is this machine's GPU with TensorRT 10 or 11, and "
            f"{tensorrt.why_not(target)}: choose target cpu or rtx."
        )


def is_buildable(target: Target) -> bool:
    """Whether this machine can build the engine itself, and not only prepare it."""
    return target.backend != "tensorrt" or not tensorrt.why_not(target)
