"""Fast NMS (Bolya et al., 2019, arXiv 1904.02689): suppression without a sequence.

Per class, the best K candidates in order of falling score; one is dropped if *any* better one of
its class overlaps it with IoU > threshold, also one that was dropped itself:

    keep_j = max_{i < j} IoU_ij <= threshold

so all of it is a matrix, its strict upper triangle and a maximum over columns. `cross_class` does
the same once for all classes, each candidate with its best one.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["fast_nms", "pairwise_iou"]

_REJECTED = -1.0


def fast_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    iou_threshold: float,
    score_threshold: float,
    candidates: int,
    detections: int,
    cross_class: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Suppress in static shapes.

    Args:
        boxes: `[B, N, 4]`.
        scores: `[B, N, C]`, background has no column.
        iou_threshold: overlap above it suppresses.
        score_threshold: scores at or below it are no candidates.
        candidates: K, a class.
        detections: D, a picture.
        cross_class: suppress whatever the class.

    Returns:
        indices into N `[B, D]`, scores `[B, D]` falling, class columns `[B, D]`, count `[B]`; the
        first `count` are real, and the scores of the rest are below 0.
    """
    if cross_class:
        scores, columns = scores.max(2, keepdim=True)
    batch, classes = scores.shape[0], scores.shape[2]
    valid = torch.where(scores > score_threshold, scores, _REJECTED).transpose(1, 2)
    best, index = valid.topk(min(candidates, valid.shape[2]), 2)
    picked = torch.gather(boxes, 1, index.reshape(batch, -1, 1).expand(-1, -1, 4))
    overlap = pairwise_iou(picked.reshape(batch, classes, -1, 4)).triu(1).amax(2)
    kept = torch.where(overlap <= iou_threshold, best, _REJECTED).reshape(batch, -1)
    top, place = kept.topk(min(detections, kept.shape[1]))
    found = torch.gather(index.reshape(batch, -1), 1, place)
    if cross_class:
        labels = torch.gather(columns[..., 0], 1, found)
    else:
        labels = torch.div(place, best.shape[2], rounding_mode="floor")
    return found, top, labels, (top > _REJECTED / 2).sum(1)


def pairwise_iou(boxes: Tensor) -> Tensor:
    """Return IoU `[..., K, K]` of `boxes [..., K, 4]`, 0 where a union is empty."""
    low = torch.maximum(boxes[..., :, None, :2], boxes[..., None, :, :2])
    high = torch.minimum(boxes[..., :, None, 2:], boxes[..., None, :, 2:])
    sides = (high - low).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return shared / (area[..., :, None] + area[..., None, :] - shared).clamp(min=1e-9)
