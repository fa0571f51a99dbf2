"""MatrixNMS in two kernels: the overlap of each candidate with better ones, then its decay."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..launch import LaunchPlan, Stage, Tensor, at_least_one, c_float, ceil_div

__all__ = ["plan"]

_GROUPS = 8  # threads that share one candidate


def plan(attributes: Mapping[str, Any], inputs: Sequence[Tensor]) -> LaunchPlan:
    """Return the launches for `iou [B, N, N]`, `scores [B, N]`, `labels [B, N]`."""
    batch, count = inputs[1].shape
    tensors = {
        "iou": inputs[0], "scores": inputs[1], "labels": inputs[2],
        "compensate": Tensor((batch, count), "float32"),
        "decayed": Tensor((batch, count), "float32"),
    }  # fmt: skip
    names = ("iou", "scores", "labels")
    grid = (at_least_one(ceil_div(count, 32)), at_least_one(batch), 1)
    stages = (
        Stage("matrix_compensate", names, (count,), ("compensate",), grid, 32 * _GROUPS),
        Stage("matrix_decay", (*names, "compensate"), (count,), ("decayed",), grid, 32 * _GROUPS),
    )
    defines = {
        "LINEAR": str(int(attributes["method"] == "linear")),
        "SIGMA": c_float(attributes["sigma"]),
        "CLASS_AGNOSTIC": str(attributes["class_agnostic"]),
        "GROUPS": str(_GROUPS),
    }
    return LaunchPlan(
        Path(__file__).with_name("kernel.cu"), defines, names, ("decayed",), tensors, stages
    )
