"""Whether INT8 beats FP16 on a target, and why not: said when an INT8 engine is built or prepared.

The layers are modelled at the recipe's precisions and at FP16, on the target's GPU
(`calib/cost.py`). To INT8's side is added what its engine is known to do besides: where Q/DQ did
not fuse, TensorRT-RTX's program has kernels that round, whose launches and bytes were counted in
the finished engine. ONNX Runtime on a CPU is another matter: it computes FP16 in FP32, so INT8 is
held against that, and what its convolutions gain is measured where the engine is built.

A verdict on a GPU is a model's, and is worded as one; `maskrt bench` on the device measures.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from ..calib import Recipe
from ..calib.cost import Machine, layer_seconds, machine_of, recipe_seconds
from ..core import Precision, Target, UnsupportedTargetError, counted
from ..runtime.cpu_name import cpu_name
from ..runtime.integer_kernels import measured_gain

__all__ = ["payoff"]

_WORTH = 1.1


def payoff(
    model: onnx.ModelProto, recipe: Recipe, target: Target, info: Mapping[str, Any]
) -> dict[str, Any]:
    """Return `int8_ms`, `fp16_ms`, `pays` and a `sentence`; nothing for a recipe without INT8.

    Args:
        model: the canonical graph.
        recipe: what the engine was rendered from.
        target: where it is to run.
        info: the engine's, with what was counted in it.
    """
    if not recipe.narrow_layers():
        return {}
    if target.backend == "onnxruntime":
        return _on_cpu()
    machine = machine_of(target)
    seconds = layer_seconds(model, machine)
    half = recipe.with_precision(Precision.FP16)
    fp16, layers = recipe_seconds(half, seconds), recipe_seconds(recipe, seconds)
    rounding, kernels = _rounding_seconds(info, machine)
    int8 = layers + rounding
    pays = fp16 / int8 >= _WORTH
    return {
        "int8_ms": round(int8 * 1e3, 3),
        "fp16_ms": round(fp16 * 1e3, 3),
        "pays": pays,
        "sentence": _sentence(recipe, machine, fp16, layers, rounding, kernels, pays),
    }


def _sentence(
    recipe: Recipe,
    machine: Machine,
    fp16: float,
    layers: float,
    rounding: float,
    kernels: int,
    pays: bool,
) -> str:
    count, narrow = len(recipe.layers), len(recipe.narrow_layers())
    times = (
        f"by a model of {machine.name} its {counted(count, 'layer')} take {layers * 1e3:.2f} ms "
        f"against {fp16 * 1e3:.2f} ms"
    )
    extra = (
        f", and {kernels} kernels that round beside them {rounding * 1e3:.2f} ms" if kernels else ""
    )
    if pays:
        gain = fp16 / (layers + rounding)
        return (
            f"INT8 should be about {gain:.1f} times as fast as FP16 in the layers: {times}{extra}."
        )
    launches = machine.launch * count
    if rounding >= fp16 - layers > 0 and kernels:
        why = "rounding that did not fuse costs what INT8 gains"
    elif narrow < count / 2:
        why = f"only {narrow} of the layers are INT8"
    elif launches > 0.5 * layers:
        why = "the layers are so small that launching them takes most of the time"
    else:
        why = "too little of the time is left for INT8 to gain"
    return f"INT8 will hardly beat FP16, since {why}: {times}{extra}."


def _rounding_seconds(info: Mapping[str, Any], machine: Machine) -> tuple[float, int]:
    """Return what kernels that only round cost, and how many there are."""
    kernels = (info.get("kernels") or {}).get("rounding", 0)
    moved = (info.get("traffic_bytes") or {}).get("rounding", 0)
    return kernels * machine.launch + moved / machine.bandwidth, kernels


def _on_cpu() -> dict[str, Any]:
    """Return what INT8 convolutions gain on this CPU, measured."""
    try:
        gains = measured_gain()
    except UnsupportedTargetError as error:
        return {"pays": False, "sentence": str(error)}
    pays = float(np.sqrt(gains[0] * gains[1])) >= _WORTH
    verdict = "INT8 should be faster than FP32" if pays else "INT8 hardly beats FP32 here"
    return {
        "pays": pays,
        "gain_3x3": round(gains[0], 2),
        "gain_1x1": round(gains[1], 2),
        "cpu": cpu_name(),
        "sentence": (
            f"{verdict}, and than FP16, which is carried in FP32: measured on {cpu_name()}, exact "
            f"INT8 takes {1 / gains[0]:.2f} of FP32's time in 3x3 convolutions and "
            f"{1 / gains[1]:.2f} in 1x1."
        ),
    }
