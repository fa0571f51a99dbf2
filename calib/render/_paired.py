"""Integer weights whose neighbours fit into 16 bits together, with the least error.

Weights on 127 levels hold pairs whose products saturate in ONNX Runtime's fast kernels for CPUs
without dot products of bytes; one pair in some hundreds, as large weights are rare. Those pairs are
brought to the largest sum that fits (`core/paired_products.py`), and each output channel takes the
scale with the least squared error: 127 levels where large weights are no neighbours, and never
fewer than 64, where no pair saturates. The integers are then the same in every kernel of every CPU.
"""

import numpy as np

from ...core.paired_products import LARGEST_PAIR, in_pairs
from ..scales import LEVELS

__all__ = ["paired_levels"]

_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, LARGEST_PAIR / 2 / LEVELS)  # of the 127 levels
_ROWS = 1 << 22  # numbers at a time


def paired_levels(rows: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 levels and the scales that they stand on.

    Args:
        rows: float weights `[M, K]`, neighbours in the order of the products.
        scale: of 127 levels, `[M]`.

    Returns:
        Levels `[M, K]` and scales `[M]`, none smaller than `scale`.
    """
    step = max(1, _ROWS // rows.shape[1])
    parts = [
        _paired(rows[start : start + step], scale[start : start + step])
        for start in range(0, len(rows), step)
    ]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _paired(rows: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = in_pairs(rows.astype(np.float32))
    levels = np.zeros(pairs.shape, np.int8)
    scales, least = scale.astype(np.float32), np.full(len(rows), np.inf, np.float32)
    open_rows = np.arange(len(rows))
    for share in _SHARES:
        wide = (scale[open_rows] / share).astype(np.float32)
        ideal = pairs[open_rows] / wide[:, None, None]
        found, cut = _fitted(ideal)
        off = (found - ideal).reshape(len(found), -1)
        error = np.einsum("rk,rk->r", off, off) * np.square(wide)
        better = error < least[open_rows]
        at = open_rows[better]
        levels[at], scales[at], least[at] = found[better], wide[better], error[better]
        open_rows = open_rows[cut]
        if not len(open_rows):
            break
    return levels.reshape(len(rows), -1)[:, : rows.shape[1]], scales


def _fitted(ideal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels of pairs, and which rows had pairs that were too large."""
    levels = np.clip(np.rint(ideal), -LEVELS, LEVELS)
    excess = np.abs(levels[..., 0] + levels[..., 1]) - LARGEST_PAIR
    rows, places = np.nonzero(excess > 0)
    too_much = excess[rows, places]
    signs = np.sign(levels[rows, places])
    # Half of it off each of the two, which is the nearest pair; opposite signs never get here.
    parts = np.stack([np.ceil(too_much / 2), np.floor(too_much / 2)], axis=1)
    levels[rows, places] -= signs * parts
    cut = np.zeros(len(ideal), bool)
    cut[rows] = True
    return levels, cut
