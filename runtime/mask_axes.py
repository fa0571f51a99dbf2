"""Bilinear resizing of one mask, rows and columns apart, and its threshold.

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

__all__ = ["Axis", "interpolate", "touched"]

_TILE = 8192  # elements; 8192 * 30 multiply-adds are below OpenBLAS's threading threshold of 2**18


class Axis(NamedTuple):
    """One axis of one mask: output pixel `start + i` is `(1-weight) P[low] + weight P[high]`."""

    start: int
    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray


def touched(axis: Axis, seen: np.ndarray) -> Axis:
    """Keep the span of output pixels that touch a source row or column with something in it."""
    used = np.flatnonzero(seen[axis.low] | seen[axis.high])
    if not len(used):
        return Axis(axis.start, axis.low[:0], axis.high[:0], axis.weight[:0])
    span = slice(used[0], used[-1] + 1)
    return Axis(axis.start + int(used[0]), axis.low[span], axis.high[span], axis.weight[span])


def interpolate(
    inside: np.ndarray, source: np.ndarray, rows: Axis, columns: Axis, threshold: float
) -> None:
    """Write one mask, bool `[len(rows.low), len(columns.low)]`, tile by tile."""
    height, width = inside.shape
    if not inside.size:
        return
    across = (
        source[:, columns.low] * (1 - columns.weight) + source[:, columns.high] * columns.weight
    )
    weights = _weight_matrix(rows, len(source))
    step = max(1, _TILE // width)
    buffer = np.empty((min(step, height), width), np.float32)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        sources = slice(rows.low[top], rows.high[bottom - 1] + 1)
        tile = buffer[: bottom - top]
        np.matmul(weights[top:bottom, sources], across[sources], out=tile)
        np.greater(tile, threshold, out=inside[top:bottom])


def _weight_matrix(axis: Axis, source: int) -> np.ndarray:
    """Return the interpolation as a float32 matrix `[len(axis.low), source]`."""
    matrix = np.zeros((len(axis.low), source), np.float32)
    index = np.arange(len(axis.low))
    matrix[index, axis.low] = 1 - axis.weight
    matrix[index, axis.high] += axis.weight  # += : low and high coincide on the last source row
    return matrix
