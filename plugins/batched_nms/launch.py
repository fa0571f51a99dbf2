"""BatchedNMS in three kernels: rank by score, overlap bits of all pairs, greedy selection."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..launch import LaunchPlan, Stage, Tensor, at_least_one, c_float, ceil_div, require_at_most

__all__ = ["plan"]

_MOST = 16384  # candidates a picture: their bits, 2 KB, lie in shared memory
_THREADS = 256
_TILE_ROWS, _TILE_WORDS = 32, 8


def plan(attributes: Mapping[str, Any], inputs: Sequence[Tensor]) -> LaunchPlan:
    """Return the launches for `boxes [B, K, 4]`, `scores [B, K]`, `labels [B, K]`.

    Raises:
        UnsupportedTargetError: more than 16384 candidates a picture.
    """
    batch, candidates = inputs[1].shape
    require_at_most(
        _MOST, candidates, "candidates a picture for BatchedNMS", "keep fewer before it"
    )
    kept, words = attributes["max_outputs"], ceil_div(candidates, 32)
    tensors = {
        "boxes": inputs[0], "scores": inputs[1], "labels": inputs[2],
        "order": Tensor((batch, candidates), "int32"),
        "valid": Tensor((batch,), "int32"),
        "bits": Tensor((batch, candidates, words), "int32"),
        "out_boxes": Tensor((batch, kept, 4), "float32"),
        "out_scores": Tensor((batch, kept), "float32"),
        "out_labels": Tensor((batch, kept), "int32"),
        "out_indices": Tensor((batch, kept), "int32"),
        "count": Tensor((batch,), "int32"),
    }  # fmt: skip
    outputs = ("out_boxes", "out_scores", "out_labels", "out_indices", "count")
    rank = Stage(
        "nms_rank", ("scores",), (candidates,), ("order", "valid"),
        (at_least_one(ceil_div(candidates, _THREADS)), at_least_one(batch), 1), _THREADS,
    )  # fmt: skip
    overlap = Stage(
        "nms_overlap", ("boxes", "labels", "order", "valid"), (candidates,), ("bits",),
        (
            at_least_one(ceil_div(words, _TILE_WORDS)),
            at_least_one(ceil_div(candidates, _TILE_ROWS)),
            at_least_one(batch),
        ),
        _TILE_ROWS * _TILE_WORDS,
    )  # fmt: skip
    select = Stage(
        "nms_select", ("boxes", "scores", "labels", "order", "valid", "bits"), (candidates,),
        outputs, (at_least_one(batch), 1, 1), _THREADS,
    )  # fmt: skip
    defines = {
        "IOU_THRESHOLD": c_float(attributes["iou_threshold"]),
        "SCORE_THRESHOLD": c_float(attributes["score_threshold"]),
        "CLASS_AGNOSTIC": str(attributes["class_agnostic"]),
        "MAX_OUTPUTS": str(kept),
        "MAX_WORDS": str(_MOST // 32),
        "THREADS": str(_THREADS),
        "TILE_ROWS": str(_TILE_ROWS),
        "TILE_WORDS": str(_TILE_WORDS),
    }
    return LaunchPlan(
        Path(__file__).with_name("kernel.cu"), defines, ("boxes", "scores", "labels"), outputs,
        tensors, (rank, overlap, select),
    )  # fmt: skip
