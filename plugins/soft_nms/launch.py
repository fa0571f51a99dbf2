"""SoftNMS in one kernel: a block a picture, since each candidate taken decides the next."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..launch import LaunchPlan, Stage, Tensor, at_least_one, c_float

__all__ = ["plan"]

_THREADS = 256


def plan(attributes: Mapping[str, Any], inputs: Sequence[Tensor]) -> LaunchPlan:
    """Return the launch for `boxes [B, K, 4]`, `scores [B, K]`, `labels [B, K]`."""
    batch, candidates = inputs[1].shape
    kept = attributes["max_outputs"]
    tensors = {
        "boxes": inputs[0], "scores": inputs[1], "labels": inputs[2],
        "current": Tensor((batch, candidates), "float32"),
        "out_boxes": Tensor((batch, kept, 4), "float32"),
        "out_scores": Tensor((batch, kept), "float32"),
        "out_labels": Tensor((batch, kept), "int32"),
        "out_indices": Tensor((batch, kept), "int32"),
        "count": Tensor((batch,), "int32"),
    }  # fmt: skip
    outputs = ("out_boxes", "out_scores", "out_labels", "out_indices", "count")
    stage = Stage(
        "soft_nms", ("boxes", "scores", "labels"), (candidates,), ("current", *outputs),
        (at_least_one(batch), 1, 1), _THREADS,
    )  # fmt: skip
    defines = {
        "LINEAR": str(int(attributes["method"] == "linear")),
        "IOU_THRESHOLD": c_float(attributes["iou_threshold"]),
        "SIGMA": c_float(attributes["sigma"]),
        "SCORE_THRESHOLD": c_float(attributes["score_threshold"]),
        "CLASS_AGNOSTIC": str(attributes["class_agnostic"]),
        "MAX_OUTPUTS": str(kept),
        "THREADS": str(_THREADS),
    }
    return LaunchPlan(
        Path(__file__).with_name("kernel.cu"), defines, ("boxes", "scores", "labels"), outputs,
        tensors, (stage,),
    )  # fmt: skip
