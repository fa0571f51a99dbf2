"""BatchedNMS in plain PyTorch: the definition that every other body is compared with."""

import torch
from torch import Tensor

__all__ = ["batched_nms", "pairwise_iou"]


def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    iou_threshold: float,
    score_threshold: float,
    max_outputs: int,
    class_agnostic: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Suppress `boxes [B, K, 4]`, `scores [B, K]`, `labels int32 [B, K]`.

    Returns:
        boxes `[B, D, 4]`, scores `[B, D]`, labels, indices int32 `[B, D]`, count int32 `[B]`.
    """
    batch = boxes.shape[0]
    indices = torch.zeros(batch, max_outputs, dtype=torch.int64)
    valid = torch.zeros(batch, max_outputs, dtype=torch.bool)
    for b in range(batch):
        classes = torch.zeros_like(labels[b]) if class_agnostic else labels[b]
        kept = _suppress(boxes[b], scores[b], classes, iou_threshold, score_threshold)
        kept = kept[:max_outputs]
        indices[b, : len(kept)] = kept
        valid[b, : len(kept)] = True
    picked = torch.gather(boxes, 1, indices[..., None].expand(-1, -1, 4))
    return (
        torch.where(valid[..., None], picked, 0.0),
        torch.where(valid, torch.gather(scores, 1, indices), 0.0),
        torch.where(valid, torch.gather(labels, 1, indices), 0),
        indices.to(torch.int32),
        valid.sum(1).to(torch.int32),
    )


def _suppress(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, score_threshold: float
) -> Tensor:
    """Return the indices of the kept candidates of one picture, best first."""
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[scores[order] > score_threshold]
    kept: list[int] = []
    alive = torch.ones(len(order), dtype=torch.bool)
    overlap = pairwise_iou(boxes[order]) > iou_threshold
    same = labels[order][:, None] == labels[order][None]
    for place in range(len(order)):
        if alive[place]:
            kept.append(int(order[place]))
            alive &= ~(overlap[place] & same[place])
    return torch.tensor(kept, dtype=torch.int64)


def pairwise_iou(boxes: Tensor) -> Tensor:
    """Return IoU `[K, K]` of `boxes [K, 4]`; NaN where a union is empty."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    return shared / (area[:, None] + area[None] - shared)
