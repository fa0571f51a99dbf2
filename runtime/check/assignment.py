"""COCO's assignment of detections to annotations, in one picture and category.

Detections are taken in descending score. Each takes, of the annotations that are still free and
overlap it by the threshold or more, the one with the largest IoU (the last of equals): of those
that count if there is one, else of those that are ignored. A crowd is ignored, and is never used
up. An annotation outside an area range is ignored in that range; a detection outside it that found
no partner is ignored too, instead of being false.

All four area ranges and ten thresholds are 40 lanes of one pass, kept as the bits of one integer:
lane `10 a + t` is area range `a` at threshold `t`. Detections that overlap nothing by 0.5 skip it.

Source: pycocotools/cocoeval.py, `evaluateImg`.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["AREAS", "LANES", "THRESHOLDS", "Assignment", "assign", "lane_bits"]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREAS = {"": (0.0, 1e10), "S": (0.0, 32.0**2), "M": (32.0**2, 96.0**2), "L": (96.0**2, 1e10)}
"""Area ranges in pixels, both ends included, by the suffix of their metrics."""

LANES = len(AREAS) * len(THRESHOLDS)
_LEAST = np.minimum(np.tile(THRESHOLDS, len(AREAS)), 1 - 1e-10)
_LANE = np.arange(LANES)
_WEIGHTS = np.uint64(1) << _LANE.astype(np.uint64)
_PREFERRED = 2.0  # added to the IoU of annotations that count; larger than any IoU


class Assignment(NamedTuple):
    """What became of N detections.

    Attributes:
        matched: uint64 `[N]`, a bit a lane: it has a partner.
        ignored: uint64 `[N]`, a bit a lane: it neither counts as true nor as false.
        partner: intp `[N]`, the annotation at IoU 0.5 over all areas, or -1.
    """

    matched: np.ndarray
    ignored: np.ndarray
    partner: np.ndarray


def assign(
    ious: np.ndarray, areas: np.ndarray, truth_areas: np.ndarray, crowd: np.ndarray
) -> Assignment:
    """Assign N detections, best score first, to G annotations.

    Args:
        ious: float64 `[N, G]`, as pycocotools computes them.
        areas: of the detections, pixels.
        truth_areas: of the annotations, pixels.
        crowd: bool `[G]`.
    """
    matched = np.zeros((len(areas), LANES), bool)
    ignored = np.repeat(~_inside(areas), len(THRESHOLDS), axis=0).T.copy()
    partner = np.full(len(areas), -1, np.intp)
    near = ious >= THRESHOLDS[0]
    shown = np.flatnonzero(near.any(axis=0)) if len(truth_areas) else np.empty(0, np.intp)
    if len(shown):
        skipped = np.repeat(crowd | ~_inside(truth_areas), len(THRESHOLDS), axis=0)[:, shown]
        reusable = crowd[shown]
        free = np.ones(skipped.shape, bool)
        overlaps = ious[:, shown]
        for index in np.flatnonzero(near.any(axis=1)):
            found, best = _best(overlaps[index], free, skipped)
            lanes = _LANE[found]
            matched[index] = found
            ignored[index, lanes] = skipped[lanes, best[lanes]]
            free[lanes, best[lanes]] = reusable[best[lanes]]
            if found[0]:
                partner[index] = shown[best[0]]
    return Assignment(_pack(matched), _pack(ignored), partner)


def lane_bits(packed: np.ndarray, area: int) -> np.ndarray:
    """Return bool `[10, N]`: the bits of one area range, a row a threshold."""
    first = area * len(THRESHOLDS)
    shifts = np.arange(first, first + len(THRESHOLDS), dtype=np.uint64)[:, None]
    return (packed[None] >> shifts & np.uint64(1)).astype(bool)


def _best(row: np.ndarray, free: np.ndarray, skipped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each lane, whether there is a partner and which it is."""
    possible = free & (row >= _LEAST[:, None])
    rank = np.where(possible, np.where(skipped, row, row + _PREFERRED), -1.0)
    best = rank.shape[1] - 1 - rank[:, ::-1].argmax(axis=1)
    return np.asarray(possible.any(axis=1)), best


def _inside(areas: np.ndarray) -> np.ndarray:
    """Return bool `[4, N]`: whether each area lies in each range."""
    return np.array([(areas >= low) & (areas <= high) for low, high in AREAS.values()])


def _pack(lanes: np.ndarray) -> np.ndarray:
    return lanes @ _WEIGHTS if len(lanes) else np.zeros(0, np.uint64)
