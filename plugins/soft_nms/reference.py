"""SoftNMS in plain PyTorch: the definition that every other body is compared with."""

import torch
from torch import Tensor

from ..batched_nms.reference import pairwise_iou
from .schema import least_overlap

__all__ = ["soft_nms"]


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    method: str,
    iou_threshold: float,
    sigma: float,
    score_threshold: float,
    max_outputs: int,
    class_agnostic: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Suppress `boxes [B, K, 4]`, `scores [B, K]`, `labels int32 [B, K]` softly.

    Returns:
        boxes `[B, D, 4]`, decayed scores `[B, D]`, labels, indices int32 `[B, D]`, count int32
        `[B]`.
    """
    batch = boxes.shape[0]
    out_boxes, out_scores = torch.zeros(batch, max_outputs, 4), torch.zeros(batch, max_outputs)
    out_labels = torch.zeros(batch, max_outputs, dtype=torch.int32)
    out_indices, count = out_labels.clone(), torch.zeros(batch, dtype=torch.int32)
    for b in range(batch):
        overlap = pairwise_iou(boxes[b])
        decay = 1 - overlap if method == "linear" else torch.exp(-(overlap * overlap) / sigma)
        meets = overlap > least_overlap(method, iou_threshold)
        if not class_agnostic:
            meets &= labels[b][:, None] == labels[b][None]
        taken = _take(scores[b], decay, meets, score_threshold, max_outputs)
        for place, (index, score) in enumerate(taken):
            out_boxes[b, place], out_scores[b, place] = boxes[b, index], score
            out_labels[b, place], out_indices[b, place] = labels[b, index], index
        count[b] = len(taken)
    return out_boxes, out_scores, out_labels, out_indices, count


def _take(
    scores: Tensor, decay: Tensor, meets: Tensor, score_threshold: float, most: int
) -> list[tuple[int, Tensor]]:
    """Return index and score of the candidates of one picture as they are taken.

    Args:
        scores: `[K]`.
        decay: `[K, K]`, what a score is multiplied by.
        meets: `[K, K]`, where it is.
        score_threshold: scores at or below it are not taken.
        most: how many are taken at most.
    """
    taken: list[tuple[int, Tensor]] = []
    current = _without_nan(scores)
    while len(taken) < min(most, len(scores)):
        best = int(current.argmax())
        if not current[best] > score_threshold:
            break
        taken.append((best, current[best]))
        current = torch.where(meets[best], _without_nan(current * decay[best]), current)
        current[best] = -torch.inf
    return taken


def _without_nan(scores: Tensor) -> Tensor:
    return torch.where(scores.isnan(), -torch.inf, scores)
