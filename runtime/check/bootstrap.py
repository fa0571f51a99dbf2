"""How sure an AP drop is: a paired bootstrap over the pictures.

Pictures are drawn with replacement, as many as there are, and both models are measured on the same
draw; the spread of the drop over the draws is what another set of as many pictures could have
shown. A picture drawn k times weighs k: assignments do not change, so AP follows from `Records`
with weighted counts. Only true positives matter for the 101 recalls:

    AP = (env_1 + sum over true positives j of env_j (F_j - F_{j-1})) / 101

where `env_j` is the largest precision at j or beyond, `F_j` how many of the 101 recalls are
reached at j, and `F_0` = 1. For whole weights this is the AP of the set with its pictures repeated.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentiles).
"""

from typing import Any

import numpy as np

from .assignment import THRESHOLDS, lane_bits
from .average_precision import RECALLS
from .records import Tables

__all__ = ["drop_interval", "weighted_ap"]

_DRAWS = 1000
_FEWEST_DRAWS = 200
_WORK = 2e9  # weights times thresholds, about ten seconds a model
_CHUNK = 4_000_000  # weights at a time


def drop_interval(
    reference: Tables, found: Tables, pictures: int, *, draws: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Return the 95 % interval of the AP drop, reference minus found, in points of 0 to 100.

    Returns:
        `low`, `high`, `draws`, `pictures`, and `within_noise`: whether 0 lies in the interval.
    """
    if draws is None:
        rows = max(len(reference.score) + len(found.score), 1)
        draws = int(np.clip(_WORK / (rows * len(THRESHOLDS)), _FEWEST_DRAWS, _DRAWS))
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(pictures, np.full(pictures, 1 / pictures), draws).astype(np.float32)
    drops = 100 * (weighted_ap(reference, weights) - weighted_ap(found, weights))
    low, high = (float(value) for value in np.nanpercentile(drops, (2.5, 97.5)))
    return {
        "low": low,
        "high": high,
        "draws": draws,
        "pictures": pictures,
        "within_noise": low <= 0.0 <= high,
    }


def weighted_ap(tables: Tables, weights: np.ndarray) -> np.ndarray:
    """Return AP, 0 to 1, under each weighting of the pictures.

    Args:
        tables: the records.
        weights: float `[B, pictures]`, in the order of ascending picture ids.

    Returns:
        float64 `[B]`; NaN where no annotation has weight.
    """
    total, categories = np.zeros(len(weights)), np.zeros(len(weights))
    for category in tables.categories():
        own = tables.truth_category == category
        counts = weights[:, tables.truth_image[own]] @ tables.truth_count[own, 0]
        rows = tables.ordered(category)
        step = max(1, _CHUNK // max(len(rows), 1))
        for start in range(0, len(weights), step):
            part = slice(start, start + step)
            seen = counts[part] > 0
            found = _category_ap(tables, rows, weights[part], np.maximum(counts[part], 1.0))
            total[part] += np.where(seen, found, 0.0)
            categories[part] += seen
    with np.errstate(invalid="ignore"):
        return total / categories


def _category_ap(
    tables: Tables, rows: np.ndarray, weights: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Return the mean over the thresholds of one category's AP, float64 `[B]`."""
    hits = lane_bits(tables.matched[rows], 0)
    valid = ~lane_bits(tables.ignored[rows], 0)
    drawn = weights[:, tables.image[rows]].astype(np.float64)
    every = np.zeros(len(weights))
    seen: dict[bytes, np.ndarray] = {}  # the thresholds differ only in what a crowd swallows
    for hit, counted in zip(hits, valid, strict=True):
        key = counted.tobytes()
        if key not in seen:
            seen = {key: np.cumsum(drawn * counted, axis=1)}
        every += _one_ap(drawn, hit & counted, seen[key], counts)
    return every / len(THRESHOLDS)


def _one_ap(
    drawn: np.ndarray, hit: np.ndarray, every: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Return AP at one threshold; `every` is how many detections count up to each."""
    if not hit.any():
        return np.zeros(len(drawn))
    true = np.cumsum(drawn[:, hit], axis=1)
    precision = true / np.maximum(every[:, hit], 1e-9)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALLS, true / counts[:, None], side="right")
    steps = np.diff(reached, axis=1, prepend=1)  # recall 0 is reached by any detection
    return (highest[:, 0] + (highest * steps).sum(axis=1)) / len(RECALLS)
