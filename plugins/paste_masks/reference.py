"""PasteMasks in plain PyTorch: the definition that every other body is compared with."""

from typing import NamedTuple

import torch
from torch import Tensor

from ...core.masks import MaskPaste
from .schema import FARTHEST

__all__ = ["pack_bits", "paste_masks"]


class _Axis(NamedTuple):
    """Output pixel `start + k` of one axis: `(1 - weight[k]) P[low[k]] + weight[k] P[high[k]]`."""

    start: int
    low: Tensor
    high: Tensor
    weight: Tensor


def paste_masks(
    probabilities: Tensor,
    boxes: Tensor,
    *,
    height: int,
    width: int,
    threshold: float,
    packed: int,
    paste: str = MaskPaste.TORCHVISION.value,
) -> Tensor:
    """Paste `probabilities [B, N, M, M]` at `boxes [B, N, 4]` (xyxy, pixels of the picture).

    Returns:
        uint8 `[B, N, height, width]`, or int32 `[B, N, height, ceil(width / 32)]` if `packed`.
    """
    batch, count, side, _ = probabilities.shape
    masks = torch.zeros(batch, count, height, width, dtype=torch.uint8)
    sources = torch.nn.functional.pad(probabilities.to(torch.float32), (1, 1, 1, 1))
    rule = MaskPaste(paste)
    truncates = rule is MaskPaste.TORCHVISION
    corners = _widen(boxes, (side + 2) / side) if truncates else boxes
    axis_of = _truncated_axis if truncates else _sampled_axis
    for b in range(batch):
        for n in range(count):
            x0, y0, x1, y1 = corners[b, n]
            if not (corners[b, n].abs() < FARTHEST).all():
                continue
            rows, columns = axis_of(y0, y1, height, side), axis_of(x0, x1, width, side)
            pasted = _interpolate(sources[b, n], rows, columns) > rule.exceeded(threshold)
            top, left = rows.start, columns.start
            bottom, right = top + len(rows.low), left + len(columns.low)
            masks[b, n, top:bottom, left:right] = pasted
    return pack_bits(masks) if packed else masks


def pack_bits(masks: Tensor) -> Tensor:
    """Pack the 0 and 1 of `[..., width]` into int32 words `[..., ceil(width / 32)]`."""
    words = -(-masks.shape[-1] // 32)
    bits = torch.nn.functional.pad(masks.to(torch.int64), (0, words * 32 - masks.shape[-1]))
    values = (bits.reshape(*masks.shape[:-1], words, 32) << torch.arange(32)).sum(-1)
    return torch.where(values < 2**31, values, values - 2**32).to(torch.int32)


def _widen(boxes: Tensor, scale: float) -> Tensor:
    """Widen boxes about their centres: float `[..., 4]`, not yet truncated."""
    low, high = boxes[..., :2], boxes[..., 2:]
    half = (high - low) * 0.5 * scale
    centre = (high + low) * 0.5
    return torch.cat([centre - half, centre + half], dim=-1)


def _truncated_axis(low: Tensor, high: Tensor, size: int, side: int) -> _Axis:
    """Return the weights of the pixels of torchvision's `first..last` that lie in `0..size-1`."""
    first, last, source = int(low), int(high), side + 2
    start = min(max(first, 0), size)
    stop = max(min(last + 1, size), start)
    scale = torch.tensor(float(source)) / torch.tensor(float(max(last - first + 1, 1)))
    position = torch.arange(start - first, stop - first).to(torch.float32)
    at = ((position + 0.5) * scale - 0.5).clamp(min=0)
    below = at.floor().clamp(max=source - 1).to(torch.int64)
    return _Axis(start, below, (below + 1).clamp(max=source - 1), at - below)


def _sampled_axis(low: Tensor, high: Tensor, size: int, side: int) -> _Axis:
    """Return the weights of the pixels of `0..size-1` whose centres see detectron2's mask."""
    centre = torch.arange(size).to(torch.float32) + 0.5
    grid = (centre - low) / (high - low) * 2 - 1
    at = (grid + 1) * (side / 2) - 0.5
    seen = torch.nonzero((at > -1) & (at < side) & (high > low))[:, 0]
    at, start = at[seen], int(seen[0]) if len(seen) else 0
    below = at.floor()
    weight, below = at - below, below.to(torch.int64) + 1
    return _Axis(start, below, below + 1, weight)


def _interpolate(source: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Resample `source [S, S]`, across first: float `[len(rows.low), len(columns.low)]`."""
    left, right = source[:, columns.low], source[:, columns.high]
    across = left * (1 - columns.weight) + right * columns.weight
    above, below = across[rows.low], across[rows.high]
    return above * (1 - rows.weight[:, None]) + below * rows.weight[:, None]
