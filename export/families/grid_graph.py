"""From candidate masks to detections in static shapes: a batch at a time, padded.

What is no candidate has a score below zero: it comes after every candidate, so it suppresses none,
and is cut from the end. Candidates are the best `settings.candidates` by category score, where the
papers sort all above the score threshold by category score times maskness; the two differ only if
more pass the threshold.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop

from ...plugins.symbolic import mask_iou, matrix_nms
from .grid import MASK_THRESHOLD, GridSettings

__all__ = ["best_cells", "boxes_of", "choose", "of_each"]

_REJECTED = -1.0


def best_cells(logits: list[Tensor], number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best cells of a batch over all levels.

    Args:
        logits: `[B, classes, S, S]` of each level.
        number: how many, at most as many as there are.

    Returns:
        scores float `[B, K]`, cells int64 `[B, K]` counted over all levels, labels int64 `[B, K]`,
        1 for the first class.
    """
    classes = logits[0].shape[1]
    rows = []
    for level in logits:
        heat = torch.sigmoid(level)
        peak = nn.functional.max_pool2d(nn.functional.pad(heat, (1, 0, 1, 0)), 2, stride=1)
        heat = torch.where(heat >= peak, heat, 0.0)
        rows.append(heat.flatten(2).transpose(1, 2).flatten(1))
    flat = torch.cat(rows, 1)
    scores, place = flat.topk(min(number, flat.shape[1]))
    cell = torch.div(place, classes, rounding_mode="floor")
    return scores, cell, place - cell * classes + 1


def of_each(values: Tensor, place: Tensor) -> Tensor:
    """Return `values[b, place[b, k]]` of `[B, N, …]` for `place [B, K]`: `[B, K, …]`."""
    index = place.reshape(*place.shape, *([1] * (values.ndim - 2)))
    return torch.gather(values, 1, index.expand(-1, -1, *values.shape[2:]))


def choose(
    masks_of: Callable[[Tensor], Tensor],
    cells: Tensor,
    scores: Tensor,
    labels: Tensor,
    least: Tensor,
    settings: GridSettings,
    most: int,
    shape: tuple[int, int],
    corner: Tensor,
) -> tuple[Tensor, ...]:
    """Rescore, suppress and cut: boxes, scores, labels int32, masks, count int32.

    The masks of those that are left are made once more from what all are made of: to keep all and
    to copy some would move more.

    Args:
        masks_of: makes of cells `[B, N]` their masks `[B, N, h, w]`, probabilities over the padded
            canvas's quarter.
        cells: the candidates', int64 `[B, K]`.
        scores: of their categories, `[B, K]`.
        labels: int64 `[B, K]`.
        least: a mask has more elements than this, `[B, K]`.
        settings: of the model.
        most: detections at most.
        shape: `(height, width)` of the masks that are returned: a quarter of the canvas.
        corner: `(w, h, w, h)` of the pictures in pixels, `[B, 1, 4]`.
    """
    masks = masks_of(cells)
    inside = (masks > MASK_THRESHOLD).float()
    iou, area = mask_iou(masks, threshold=MASK_THRESHOLD)
    maskness = (masks * inside).sum((2, 3)) / area.clamp(min=1.0)
    real = (scores > settings.score_threshold) & (area > least)
    scores = torch.where(real, scores * maskness, _REJECTED)
    if settings.nms == "matrix":
        scores = matrix_nms(
            iou, scores, labels.to(torch.int32), method=settings.method,
            sigma=settings.sigma, class_agnostic=0,
        )  # fmt: skip
        real = real & (scores >= settings.final_threshold)
    else:
        real = real & _greedy(iou, scores, labels, settings.overlap_threshold)
    scores, order = torch.where(real, scores, _REJECTED).topk(min(most, scores.shape[1]))
    kept = scores > 0
    masks = masks_of(of_each(cells, order))[:, :, : shape[0], : shape[1]] * kept[..., None, None]
    boxes = boxes_of(masks, MASK_THRESHOLD, corner)
    labels = torch.where(kept, of_each(labels, order), 0).to(torch.int32)
    count = kept.sum(1).to(torch.int32)
    return boxes, torch.where(kept, scores, 0.0), labels, masks, count


def boxes_of(masks: Tensor, threshold: float, corner: Tensor) -> Tensor:
    """Return xyxy `[B, N, 4]` in canvas pixels of `masks [B, N, h, w]`; zero for empty ones.

    The definition is `grid_reference.box_of`'s, for the part of each mask that lies in its picture,
    which ends at `corner [B, 1, 4]`. Every pair of neighbours of a profile is asked whether it
    passes the threshold; the box's edges are the first and the last that do.
    """
    right, below = corner[..., 2], corner[..., 3]
    across, down = _elements(masks.shape[3], right), _elements(masks.shape[2], below)
    columns = (masks * down[..., None]).amax(2) * across
    rows = (masks * across[..., None, :]).amax(3) * down
    x0, x1 = _extent(columns, threshold, right)
    y0, y1 = _extent(rows, threshold, below)
    boxes = torch.stack([x0, y0, torch.minimum(x1, right), torch.minimum(y1, below)], -1)
    return boxes * (rows.amax(2) > threshold)[..., None]


def _elements(number: int, end: Tensor) -> Tensor:
    """Return which of `number` elements begin before `end [B, 1]`, canvas pixels: `[B, 1, n]`."""
    return 4 * torch.arange(number, dtype=torch.float32) < end[..., None]


def _extent(profile: Tensor, threshold: float, end: Tensor) -> tuple[Tensor, Tensor]:
    """Return where `profile [B, N, n]` rises first and falls last, in canvas pixels.

    The rim is `end [B, 1]`; elements that begin behind it are zero.
    """
    number = profile.shape[2]
    left, right = profile[..., :-1], profile[..., 1:]
    step = (right - left).abs().clamp(min=1e-12)
    crossing = torch.arange(number - 1) + (left - threshold).abs() / step
    rises = (left <= threshold) & (right > threshold)
    falls = (left > threshold) & (right <= threshold)
    first = torch.where(rises, crossing, float(number)).amin(-1)
    last = 4 * (torch.where(falls, crossing, -1.0).amax(-1) + 0.5)
    first = torch.where(profile[..., 0] > threshold, -0.5, first)
    at_rim = profile * ~_elements(number, end - 4)  # the last element, as those behind it are zero
    return 4 * (first + 0.5), torch.where(at_rim.amax(-1) > threshold, end, last)


def _greedy(iou: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Return bool `[B, K]`: what greedy NMS keeps.

    `keep = not any(suppressed by a kept one)`, until nothing changes: after n rounds it is right
    for every candidate at the end of a chain of n, each suppressing the next.
    """
    place = torch.arange(scores.shape[1])
    theirs, mine = scores[:, None, :], scores[:, :, None]
    before = (theirs > mine) | ((theirs == mine) & (place[None, :] < place[:, None]))
    same = labels[:, None, :] == labels[:, :, None]
    suppresses = (before & same & (iou > threshold)).float()  # [b, mine, theirs]

    def changes(keep: Tensor, last: Tensor) -> Tensor:
        return (keep - last).abs().sum() > 0

    def again(keep: Tensor, _last: Tensor) -> tuple[Tensor, Tensor]:
        return (torch.matmul(suppresses, keep[..., None])[..., 0] < 0.5).float(), keep.clone()

    # The exporter makes an ONNX Loop of it.
    keep, _ = while_loop(changes, again, (torch.ones_like(scores), torch.zeros_like(scores)))
    return keep > 0.5
