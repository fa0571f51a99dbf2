"""Calibration methods: from a histogram of magnitudes to the largest one that the grid holds.

| method | threshold t |
|---|---|
| `minmax` | the largest magnitude seen |
| `percentile` | the magnitude that 99.99 % of the values do not exceed |
| `mse` | the t that leaves the least squared error, of rounding below t and of saturation above |
| `entropy` | the t whose 128 levels lose the least information (Kullback-Leibler), as TensorRT |
| `best` | of these, the one that leaves the least squared error, tensor by tensor |

    error(t) = sum of x² for |x| <= s/2, of s²/12 up to t, of (|x| - t)² beyond,   s = t / 127

Everything is counted on bins; the largest magnitude is exact.

Source: Migacz, 8-bit Inference with TensorRT, GTC 2017 (entropy); Wu et al., arXiv 2004.09602.
"""

from collections.abc import Mapping

import numpy as np

from .histogram import Histogram, bin_edges
from .scales import LEVELS

__all__ = ["DEFAULT_METHOD", "METHODS", "entropy_threshold", "squared_error", "thresholds"]

METHODS = ("minmax", "percentile", "mse", "entropy", "best")
DEFAULT_METHOD = "mse"
_PERCENTILE = 0.9999
_LINEAR_BINS = 2048
_LEVELS_A_SIDE = 128
_LEAST = 1 / 16  # no threshold below this share of the largest magnitude is tried


def thresholds(histogram: Histogram, largest: float) -> dict[str, float]:
    """Return every method's threshold.

    Args:
        histogram: of the magnitudes seen, or of a sample of them.
        largest: exactly the largest magnitude; 0 where the tensor is dead.
    """
    if not largest > 0 or not histogram.counts.any():
        return dict.fromkeys(METHODS, largest)
    found: dict[str, float] = {
        "minmax": largest,
        "percentile": min(_percentile(histogram), largest),
        "mse": _least_error(histogram, largest),
        "entropy": min(entropy_threshold(_linear(histogram, largest), largest), largest),
    }
    return {**found, "best": _best(histogram, found)}


def squared_error(histogram: Histogram, candidates: np.ndarray) -> np.ndarray:
    """Return what symmetric 8-bit grids up to each of `candidates` leave of squared error."""
    edges = histogram.edges
    middle = (edges[:-1] + edges[1:]) / 2
    counts = histogram.counts.astype(np.float64)
    below = [np.concatenate([[0.0], np.cumsum(counts * middle**power)]) for power in (0, 1, 2)]
    steps = candidates / LEVELS
    ends = np.searchsorted(middle, candidates, side="right")
    smalls = np.searchsorted(middle, steps / 2, side="right")
    above = [total[-1] - total[ends] for total in below]
    saturated = above[2] - 2 * candidates * above[1] + candidates**2 * above[0]
    rounded = (below[0][ends] - below[0][smalls]) * steps**2 / 12
    return below[2][smalls] + rounded + saturated


def entropy_threshold(linear: np.ndarray, largest: float) -> float:
    """Return TensorRT's entropy threshold of a linear histogram of magnitudes.

    For each i of 128 to the number of bins: P is the first i bins, with what lies beyond added to
    the last of them; Q is the same bins, without that, merged to 128 levels, each level's count
    spread evenly over those of its bins that are not empty. The i of least KL(P || Q) gives
    `(i + 0.5)` bin widths. The first bin counts as the second: behind a ReLU it holds so many zeros
    that the rest would weigh nothing.

    Args:
        linear: counts `[n]` of equally wide bins from 0 to `largest`.
        largest: end of the last bin.
    """
    bins = len(linear)
    if bins <= _LEVELS_A_SIDE:
        return largest
    counts = linear.astype(np.float64)
    counts[0] = counts[1]
    if not counts.any():
        return largest  # all lies in the first bin, which tells nothing
    divergences = _divergences(counts)
    chosen = _LEVELS_A_SIDE + int(np.argmin(divergences))
    return (chosen + 0.5) * largest / bins


def _divergences(counts: np.ndarray) -> np.ndarray:
    """Return KL(P || Q) for every i, from sums over bins alone: `[n - 127]`.

        KL = 1/T (sum r log r - T log T - sum r log q + T log I)

    with r the counts of P, T their sum, q the spread counts of Q, I their sum.
    """
    ends = np.arange(_LEVELS_A_SIDE, len(counts) + 1)
    total, last = counts.sum(), counts[ends - 1]
    inside = np.cumsum(counts)[ends - 1]
    outliers = total - inside
    borders = np.arange(_LEVELS_A_SIDE + 1) * ends[:, None] // _LEVELS_A_SIDE
    sums = np.diff(_cumulated(counts)[borders], axis=1)
    members = np.diff(_cumulated((counts > 0).astype(np.float64))[borders], axis=1)
    logs = _log(sums) - _log(members)
    r_log_r = _cumulated(counts * _log(counts))[ends - 1] + (last + outliers) * _log(
        last + outliers
    )
    r_log_q = (sums * logs).sum(axis=1) + outliers * logs[:, -1]
    found = (r_log_r - r_log_q) / total - np.log(total) + _log(inside)
    # P has mass where Q has none: infinitely far.
    return np.where((outliers > 0) & (last == 0) | (inside == 0), np.inf, found)


def _cumulated(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(values)])


def _log(values: np.ndarray) -> np.ndarray:
    """Return logarithms, and 0 for 0: its product with 0 is what is wanted."""
    return np.log(values, out=np.zeros_like(values), where=values > 0)


def _percentile(histogram: Histogram) -> float:
    reached = np.cumsum(histogram.counts)
    place = int(np.searchsorted(reached, _PERCENTILE * reached[-1]))
    return float(bin_edges()[place + 1])


def _least_error(histogram: Histogram, largest: float) -> float:
    edges = bin_edges()
    candidates = edges[(edges > largest * _LEAST) & (edges < largest)]
    candidates = np.append(candidates, largest)
    return float(candidates[np.argmin(squared_error(histogram, candidates))])


def _best(histogram: Histogram, found: Mapping[str, float]) -> float:
    values = np.array(list(found.values()))
    return float(values[np.argmin(squared_error(histogram, values))])


def _linear(histogram: Histogram, largest: float) -> np.ndarray:
    """Return equally wide bins up to `largest`; counts are spread over the bins they meet."""
    edges = histogram.edges
    reached = np.concatenate([[0.0], np.cumsum(histogram.counts.astype(np.float64))])
    ends = np.linspace(0, largest, _LINEAR_BINS + 1)
    return np.diff(np.interp(ends, edges, reached))
