"""MultilevelRoIAlign in one kernel: a block for each box and share of the channels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..launch import C_TYPES, LaunchPlan, Stage, Tensor, at_least_one, c_float, c_floats, ceil_div
from .levels import first_sides

__all__ = ["plan"]

_THREADS = 256
_OUTPUTS_A_THREAD = 16  # a block makes about 4096 values: enough to hide its table's cost


def plan(attributes: Mapping[str, Any], inputs: Sequence[Tensor]) -> LaunchPlan:
    """Return the launch for `boxes [B, N, 4]` and levels `[B, C, H, W]` of one element type."""
    boxes, levels = inputs[0], inputs[1:]
    batch, count = boxes.shape[:2]
    channels = levels[0].shape[1]
    height, width = attributes["output_height"], attributes["output_width"]
    share = max(1, _THREADS * _OUTPUTS_A_THREAD // (height * width))
    result = "float32" if levels[0].dtype == "int8" else levels[0].dtype
    names = tuple(f"level{index}" for index in range(len(levels)))
    sizes = [extent for level in levels for extent in level.shape[2:]]
    stage = Stage(
        "multilevel_roialign", ("boxes", *names), (count, channels, *sizes), ("output",),
        (at_least_one(count), at_least_one(ceil_div(channels, share)), at_least_one(batch)),
        _THREADS,
    )  # fmt: skip
    defines = {
        "FEATURE": C_TYPES[levels[0].dtype],
        "RESULT": C_TYPES[result],
        "FEATURE_SCALE": c_float(attributes["feature_scale"]),
        "LEVELS": str(len(levels)),
        "FIRST_SIDES": c_floats(first_sides(attributes, len(levels)) or [0.0]),
        "SPATIAL_SCALES": c_floats(attributes["spatial_scales"]),
        "OUT_H": str(height),
        "OUT_W": str(width),
        "RATIO": str(attributes["sampling_ratio"]),
        "ALIGNED": str(attributes["aligned"]),
        "MAXIMUM": str(int(attributes["mode"] == "max")),
        "SHARE": str(share),
        "THREADS": str(_THREADS),
    }
    tensors = {"boxes": boxes, **dict(zip(names, levels, strict=True)),
               "output": Tensor((batch, count, channels, height, width), result)}  # fmt: skip
    return LaunchPlan(
        Path(__file__).with_name("kernel.cu"), defines, ("boxes", *names), ("output",), tensors,
        (stage,),
    )  # fmt: skip
