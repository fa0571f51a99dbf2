"""MatrixNMS in two kernels: the overlap of each candidate with better ones, then its decay."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..launch import LaunchPlan, Stage, Tensor, at_least_one, c_float, ceil_div

__all__ = ["plan"]

_THREADS = 256
_COLUMNS = 8  # candidates a block: 32 bytes of a row, the least that memory hands over


def plan(attributes: Mapping[str, Any], inputs: Sequence[Tensor]) -> LaunchPlan:
    """Return the launches for `iou [B, N, N]`, `scores [B, N]`, `labels [B, N]`."""
    batch, count = inputs[1].shape
    tensors = {
        "iou": inputs[0], "scores": inputs[1], "labels": inputs[2],
        "compensate": Tensor((batch, count), "float32"),
        "decayed": Tensor((batch, count), "float32"),
    }  # fmt: skip
    names = ("iou", "scores", "labels")
    grid = (at_least_one(ceil_div(count, _COLUMNS)), at_least_one(batch), 1)
    stages = (
        Stage("matrix_compensate", names, (count,), ("compensate",), grid, _THREADS),
        Stage("matrix_decay", (*names, "compensate"), (count,), ("decayed",), grid, _THREADS),
    )
    defines = {
        "LINEAR": str(int(attributes["method"] == "linear")),
        "SIGMA": c_float(attributes["sigma"]),
        "CLASS_AGNOSTIC": str(attributes["class_agnostic"]),
        "THREADS": str(_THREADS),
        "COLUMNS": str(_COLUMNS),
    }
    return LaunchPlan(
        Path(__file__).with_name("kernel.cu"), defines, names, ("decayed",), tensors, stages
    )
