"""From candidate masks to detections as the papers have it: data-dependent, one picture at a time.

This is what the graph (`grid_graph.py`) is compared with, so the two share nothing.
"""

import torch
from torch import Tensor

from .grid import MASK_THRESHOLD, GridSettings
from .one_stage import Detections, quarter

__all__ = ["box_of", "cell_scores", "choose"]


def cell_scores(logits: list[Tensor]) -> Tensor:
    """Return `[cells, classes]` for `[classes, S, S]` of each level: a score if it is a peak.

    A cell keeps its score where it is the greatest of its 2 x 2 neighbours left and above.
    """
    rows = []
    for level in logits:
        heat = torch.sigmoid(level)
        peak = torch.nn.functional.max_pool2d(heat[None], 2, stride=1, padding=1)[0, :, :-1, :-1]
        rows.append(torch.where(peak == heat, heat, 0.0).flatten(1).T)
    return torch.cat(rows)


def choose(
    masks: Tensor,
    scores: Tensor,
    labels: Tensor,
    least: Tensor,
    settings: GridSettings,
    most: int,
    canvas: tuple[int, int],
    size: tuple[int, int],
) -> Detections:
    """Rescore, suppress and sort the candidates of one picture.

    The published code compares masks over the whole padded batch, and cuts them to the picture when
    all is done; so do we. A box is that of the part in the picture, zero where there is none.

    Args:
        masks: probabilities `[N, h, w]`, of the padded batch's quarter.
        scores: of their categories, `[N]`.
        labels: int64 `[N]`, 1 for the first class.
        least: a mask has more elements than this, `[N]`.
        settings: of the model.
        most: detections at most.
        canvas: `(height, width)` of the batch before it was padded.
        size: of the picture, at the top left of its canvas.
    """
    inside = masks > MASK_THRESHOLD
    area = inside.sum((1, 2))
    keep = area > least
    masks, inside, area = masks[keep], inside[keep], area[keep]
    maskness = (masks * inside).sum((1, 2)) / area
    scores, labels = scores[keep] * maskness, labels[keep]
    order = scores.argsort(descending=True, stable=True)[: settings.candidates]
    masks, scores, labels, inside = masks[order], scores[order], labels[order], inside[order]
    if settings.nms == "matrix":
        scores = _matrix_nms(inside, scores, labels, settings)
        kept = torch.nonzero(scores >= settings.final_threshold)[:, 0]
    else:
        kept = _mask_nms(inside, labels, settings.overlap_threshold)
    best = kept[scores[kept].argsort(descending=True, stable=True)][:most]
    (rows, columns), (height, width) = quarter(canvas), quarter(size)
    masks = masks[best][:, :rows, :columns]
    boxes = [box_of(mask[:height, :width], MASK_THRESHOLD, size) for mask in masks]
    return Detections(torch.tensor(boxes).reshape(-1, 4), scores[best], labels[best], masks)


def box_of(
    mask: Tensor, threshold: float, size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return the box of one mask `[h, w]` in pixels of a picture of `size`, cut to it.

    An edge lies where the greatest probability of each row or column, joined by straight lines
    between the elements' centres, passes the threshold; at the rim it is the rim. So it is where
    the mask ends once it is upsampled, to about a pixel. An empty mask's box is zero.
    """
    if not (mask > threshold).any():
        return 0.0, 0.0, 0.0, 0.0
    x0, x1 = _extent(mask.amax(0).tolist(), threshold)
    y0, y1 = _extent(mask.amax(1).tolist(), threshold)
    return x0, y0, min(x1, float(size[1])), min(y1, float(size[0]))


def _extent(profile: list[float], threshold: float) -> tuple[float, float]:
    inside = [i for i, value in enumerate(profile) if value > threshold]
    first, last = inside[0], inside[-1]
    low, high = -0.5, len(profile) - 0.5
    if first > 0:
        low = first - (profile[first] - threshold) / (profile[first] - profile[first - 1])
    if last < len(profile) - 1:
        high = last + (profile[last] - threshold) / (profile[last] - profile[last + 1])
    return 4 * (low + 0.5), 4 * (high + 0.5)


def _overlaps(inside: Tensor) -> Tensor:
    """Return the IoU of all pairs of `[N, h, w]`."""
    flat = inside.flatten(1).double()
    shared = flat @ flat.T
    area = flat.sum(1)
    return (shared / (area[:, None] + area - shared)).float()


def _matrix_nms(inside: Tensor, scores: Tensor, labels: Tensor, settings: GridSettings) -> Tensor:
    """Return the decayed scores of candidates that come best first; SOLOv2, section 3.3."""
    if not len(scores):
        return scores
    same = labels[:, None] == labels
    overlap = (_overlaps(inside) * same).triu(1)  # [i, j]: i comes before j
    compensate = overlap.amax(0)[:, None]
    if settings.method == "gaussian":
        decay = torch.exp(-settings.sigma * (overlap**2 - compensate**2))
    else:
        decay = (1 - overlap) / (1 - compensate)
    return scores * decay.amin(0).clamp(max=1.0)


def _mask_nms(inside: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Return the places that greedy NMS keeps, of candidates that come best first."""
    overlap = _overlaps(inside)
    kept: list[int] = []
    for place in range(len(labels)):
        if not any(
            labels[other] == labels[place] and overlap[other, place] > threshold for other in kept
        ):
            kept.append(place)
    return torch.tensor(kept, dtype=torch.int64)
