"""Masks from the head's `[M, M]` probabilities to the picture's pixels, as torchvision pastes them.

The rule (torchvision `roi_heads.paste_masks_in_image`): put a ring of one zero around the mask, so
it is `S = M + 2` large; widen the box about its centre by `S / M`; truncate its corners toward
zero; resize the mask bilinearly (`align_corners=False`) to the box, last pixel included; compare
with the threshold. Everything is float32, in torchvision's order of operations; what is left is how
a CPU rounds two products and a sum, which decides pixels within an ulp of the threshold.

Bilinear resizing is separable, `R = Wy P Wx^T`, with two weights a row in `Wy` and `Wx`. Three
things make it fast:
    * only output rows and columns that see a probability above the threshold are made: a bilinear
      value does not exceed the largest of its four sources;
    * `P Wx^T` is made once a mask, by gathering;
    * `Wy (P Wx^T)` is a product of small tiles, each with just the source rows that it sees. Tiles
      stay in the cache, and below the size at which OpenBLAS starts threads, which cost more than
      they bring on products this small.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["paste_masks"]

_TILE = 8192  # elements; 8192 * 30 multiply-adds are below OpenBLAS's threading threshold of 2**18
_HALF = np.float32(0.5)


class _Axis(NamedTuple):
    """One axis of one mask: output pixel `start + i` is `(1-weight) P[low] + weight P[high]`."""

    start: int
    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray


def paste_masks(
    probabilities: np.ndarray,
    boxes: np.ndarray,
    size: tuple[int, int],
    threshold: float = 0.5,
) -> np.ndarray:
    """Paste masks into full-size bool pictures.

    Args:
        probabilities: float32 `[N, M, M]`, 0 to 1.
        boxes: float32 `[N, 4]`, xyxy in pixels of the picture, finite; they may reach outside it.
        size: `(height, width)` of the picture.
        threshold: a pixel belongs to the mask if its probability is greater.

    Returns:
        bool `[N, height, width]`.
    """
    height, width = size
    masks = np.zeros((len(probabilities), height, width), bool)
    if not len(probabilities):
        return masks
    padded = np.pad(np.asarray(probabilities, np.float32), ((0, 0), (1, 1), (1, 1)))
    corners = _expand(np.asarray(boxes, np.float32), padded.shape[-1] / (padded.shape[-1] - 2))
    buffer = np.empty(max(_TILE, width), np.float32)
    for mask, source, (x0, y0, x1, y1) in zip(masks, padded, corners.tolist(), strict=True):
        seen = source > threshold
        rows = _crop(_axis(y0, y1, height, len(source)), seen.any(axis=1))
        columns = _crop(_axis(x0, x1, width, len(source)), seen.any(axis=0))
        if len(rows.low) and len(columns.low):
            _paste(mask, source, rows, columns, threshold, buffer)
    return masks


def _expand(boxes: np.ndarray, scale: float) -> np.ndarray:
    """Widen boxes about their centres and truncate: int64 `[N, 4]`, last pixel included."""
    low, high = boxes[:, :2], boxes[:, 2:]
    half = (high - low) * _HALF * np.float32(scale)
    centre = (high + low) * _HALF
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.int64)


def _axis(first: int, last: int, limit: int, source: int) -> _Axis:
    """Return the weights of the output pixels of `first..last` that lie in `0..limit-1`.

    Source: `area_pixel_compute_source_index` and `guard_index_and_lambda`, ATen/native/UpSample.h.
    """
    length = max(last - first + 1, 1)
    start, stop = max(first, 0), min(last + 1, limit)
    position = np.arange(start - first, stop - first, dtype=np.float32)
    scale = np.float32(source) / np.float32(length)
    at = np.maximum((position + _HALF) * scale - _HALF, np.float32(0))
    low = np.minimum(at.astype(np.intp), source - 1)
    return _Axis(start, low, np.minimum(low + 1, source - 1), at - low.astype(np.float32))


def _crop(axis: _Axis, seen: np.ndarray) -> _Axis:
    """Keep the span of output pixels that touch a source row or column with something in it."""
    touched = np.flatnonzero(seen[axis.low] | seen[axis.high])
    if not len(touched):
        return _Axis(axis.start, axis.low[:0], axis.high[:0], axis.weight[:0])
    span = slice(touched[0], touched[-1] + 1)
    return _Axis(axis.start + int(touched[0]), axis.low[span], axis.high[span], axis.weight[span])


def _paste(
    mask: np.ndarray,
    source: np.ndarray,
    rows: _Axis,
    columns: _Axis,
    threshold: float,
    buffer: np.ndarray,
) -> None:
    """Write one mask, bool `[height, width]`, tile by tile."""
    left, width, height = columns.start, len(columns.low), len(rows.low)
    across = (
        source[:, columns.low] * (1 - columns.weight) + source[:, columns.high] * columns.weight
    )
    weights = _weight_matrix(rows, len(source))
    step = max(1, _TILE // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        sources = slice(rows.low[top], rows.high[bottom - 1] + 1)
        tile = buffer[: (bottom - top) * width].reshape(bottom - top, width)
        np.matmul(weights[top:bottom, sources], across[sources], out=tile)
        y = rows.start + top
        np.greater(tile, threshold, out=mask[y : y + bottom - top, left : left + width])


def _weight_matrix(axis: _Axis, source: int) -> np.ndarray:
    """Return the interpolation as a float32 matrix `[len(axis.low), source]`."""
    matrix = np.zeros((len(axis.low), source), np.float32)
    index = np.arange(len(axis.low))
    matrix[index, axis.low] = 1 - axis.weight
    matrix[index, axis.high] += axis.weight  # += : low and high coincide on the last source row
    return matrix
