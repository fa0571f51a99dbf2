"""Builds TensorRT-RTX engines, ahead of time and without a GPU, and reads back what they became.

    rendered graph → FP16 RoIAlign → pluginless lowering → rewrites → child process → plan
    the plan's text, the network's types → precisions of the layers → verify

The rewrites replace what TensorRT-RTX does not take (`uint8_input.py`, `long_topk.py`,
`deconvolution.py`), or makes many kernels or much traffic of (`half_features.py`,
`rtx_rewrites.py`), by operators that mean the same. The engine is `engine.trt`. Beyond the keys of
`engine.py`, its info has

| key | meaning |
|---|---|
| `kernels` | kernels a frame launches, by kind (below); None when the plan was not readable |
| `traffic_bytes` | what a `frame`'s kernels read and write, the `rounding` ones, and the `floor` |
| `accelerators` | what it was compiled for, such as `["sm80"]` (which also runs on later GPUs) |
| `device_memory_bytes` | activations and scratch on the device |
| `peak_memory_bytes` | what the build took on this machine |
| `user_allocation` | it allocates nothing while it runs, so that a CUDA graph may hold it |
| `warnings` | what TensorRT-RTX warned of |

`kernels` counts `convolution`, `gemm` and `other`; of the others, `rounding` quantise activations
for a convolution that did not absorb it. The floor is what the convolutions and GEMMs alone would
move if each weight and each of their tensors were touched once. These are counts of the compiler's
program, in which the body of a loop stands once: no times. INT8 saves nothing where rounding costs
more than it gains: `maskrt/precision/payoff.py` holds the two against each other.
"""

from typing import Any

import onnx

from ...core import Precision, Target, require
from ..cuda_device import can_run
from .capabilities import capabilities_of
from .deconvolution import rewrite_int8_deconvolutions
from .engine import Engine, Found, operator_info, precision_info, unread, verify, verify_graph
from .half_features import narrow_roialign
from .long_topk import split_long_topk
from .lowered import batch_of, lower_for
from .options import BuildOptions, check_options
from .plan_precision import found_precisions
from .plan_text import Plan, read_plan
from .rtx_rewrites import spare_kernels
from .uint8_input import cast_for_each_reader, cast_uint8_inputs
from .worker import Built, Step, build_in_child, no_step

__all__ = ["build", "build_standard"]

_UNREADABLE = "The precisions could not be read: the text of the plan was not recognised."


def build(
    model: onnx.ModelProto,
    target: Target,
    precision: Precision,
    options: BuildOptions | None = None,
    step: Step = no_step,
) -> Engine:
    """Build the engine of `model`, which is already rendered at `precision`.

    Raises:
        MissingDependencyError: tensorrt-rtx is not installed.
        UnsupportedTargetError: TensorRT-RTX does not take the graph, or failed on it.
        PrecisionError: the engine's precisions are not those asked for.
    """
    trt = require("tensorrt_rtx", f"build engines for target {target.name}")
    asked = options or BuildOptions()
    can, name = capabilities_of("tensorrt_rtx", trt.__version__), f"TensorRT-RTX {trt.__version__}"
    check_options(asked, target, can, name, precision=precision, batch=batch_of(model))
    lowered = lower_for(target, model, "pluginless", first=narrow_roialign)
    verify_graph(lowered.layers, precision, target)
    spare_kernels(lowered.model)
    built = build_standard(lowered.model, target, asked, step)
    plan = read_plan(built.plan)
    network = {name: Precision(value) for name, value in built.report["network"].items()}
    found = found_precisions(plan, [layer.name for layer in lowered.layers], network)
    verify(lowered.layers, found, target)
    info = {
        "target": target.name,
        "backend": target.backend,
        "backend_version": built.report["version"],
        **precision_info(found, precision),
        "note": _note(plan, found, precision),
        "bytes": len(built.plan),
        "build_seconds": built.seconds,
        "cached": built.cached,
        "gpu": "",
        "sms": list(target.runs_on),
        **operator_info(model, can.form),
        "options": asked.to_json(),
        "runs_here": can_run(target),
        **_program_info(plan, built.report),
    }
    return Engine({"engine.trt": built.plan}, info)


def build_standard(
    model: onnx.ModelProto,
    target: Target,
    options: BuildOptions | None = None,
    step: Step = no_step,
) -> Built:
    """Build a graph of standard operators, which is rewritten in place for TensorRT.

    Raises:
        MissingDependencyError: tensorrt-rtx is not installed.
        UnsupportedTargetError: TensorRT-RTX does not take the graph, or failed on it.
    """
    trt = require("tensorrt_rtx", f"build or check engines for target {target.name}")
    cast_uint8_inputs(model)
    cast_for_each_reader(model)
    split_long_topk(model)
    rewrite_int8_deconvolutions(model)
    # A segment of another backend's graph is built for TensorRT-RTX's portable default.
    sms = target.sms if target.backend == "tensorrt_rtx" else ()
    workspace = ((options or BuildOptions()).workspace_mib or 0) << 20
    request = {
        "package": "tensorrt_rtx", "form": "pluginless", "sms": sms, "workspace": workspace
    }  # fmt: skip
    version = trt.__version__
    return build_in_child(model, target, request, version=version, options=options, step=step)


def _program_info(plan: Plan | None, report: dict[str, Any]) -> dict[str, Any]:
    warnings = [text for severity, text in report["messages"] if severity == "WARNING"]
    return {
        "kernels": None if plan is None else plan.count(),
        "traffic_bytes": None if plan is None else plan.traffic(),
        "accelerators": [] if plan is None else list(plan.accelerators),
        "device_memory_bytes": None if plan is None else plan.device_memory_bytes,
        "peak_memory_bytes": report["peak_memory_bytes"],
        "user_allocation": report["user_allocation"],
        "warnings": warnings,
    }


def _note(plan: Plan | None, found: Found, precision: Precision) -> str:
    if plan is None:
        return _UNREADABLE
    if missing := unread(found):
        return missing
    rounding = plan.count()["rounding"]
    name = "FP8" if precision is Precision.FP8 else "INT8"
    if rounding:
        return (
            f"{rounding} kernels beside the convolutions round to {name}, so {name} need not be "
            "faster than FP16."
        )
    return ""
