"""COCO average precision and recall from records, in percent.

AP is the mean, over categories, IoU 0.50:0.95 and 101 recalls, of the largest precision at that
recall or beyond; AR the mean of the recall reached. At most 100 detections a picture and category.
S, M, L are objects up to 32^2, up to 96^2, and larger, in pixels. Where the annotations hold no
object of a size, its number is None (pycocotools says -1).

Source: https://cocodataset.org/#detection-eval; pycocotools/cocoeval.py, `accumulate`. Unlike
there, mask AP by size goes by the mask's area even if a result has a `bbox`, and zero detections
are no error: their AP is 0.0.
"""

from typing import Literal

import numpy as np

from .assignment import AREAS, THRESHOLDS, lane_bits
from .records import Tables

__all__ = [
    "BUDGETED",
    "METRICS",
    "RECALLS",
    "IouType",
    "Metrics",
    "class_metrics",
    "precision_at_recalls",
    "summarise",
]

IouType = Literal["box", "mask", "boundary"]
BUDGETED: tuple[IouType, ...] = ("box", "mask")
"""The kinds whose AP a budget holds for; boundary AP is shown beside them, and judges nothing."""

Metrics = dict[str, float | None]

METRICS = (
    "AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL",
)  # fmt: skip
"""Names of the numbers, in the order in which pycocotools has them."""

RECALLS = np.linspace(0.0, 1.0, 101)
_MOST = (1, 10, 100)


def summarise(tables: Tables) -> Metrics:
    """Return COCO's twelve numbers, 0 to 100 (see the module for None)."""
    every = [_of_category(tables, category) for category in tables.categories()]
    return {name: _percent([numbers.get(name) for numbers in every]) for name in METRICS}


def class_metrics(tables: Tables, names: dict[int, str]) -> dict[str, Metrics]:
    """Return the twelve numbers of each category that is annotated, by its name."""
    found = {}
    for category in tables.categories():
        numbers = _of_category(tables, category)
        found[names[category]] = {name: _percent([numbers.get(name)]) for name in METRICS}
    return found


def precision_at_recalls(true: np.ndarray, false: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the largest precision at each of the 101 recalls or beyond it.

    Args:
        true: float `[..., N]`, true positives up to each detection.
        false: float `[..., N]`, false ones.
        count: float `[...]`, annotations that count, above 0.

    Returns:
        float `[..., 101]`; 0 beyond the recall that is reached.
    """
    precision = true / (true + false + np.spacing(1))
    highest = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    recall = true / count[..., None]
    rows = [
        _sampled(recall[at], highest[at])
        for at in np.ndindex(recall.shape[:-1])  # searchsorted takes one row at a time
    ]
    return np.array(rows).reshape(*recall.shape[:-1], len(RECALLS))


def _sampled(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    at = np.searchsorted(recall, RECALLS, side="left")
    return np.append(precision, 0.0)[at]


def _of_category(tables: Tables, category: int) -> dict[str, np.ndarray]:
    """Return, for each metric, the values over thresholds and recalls that it is the mean of."""
    rows = tables.ordered(category)
    counts = tables.truth_count[tables.truth_category == category].sum(axis=0)
    found: dict[str, np.ndarray] = {}
    for area, (suffix, count) in enumerate(zip(AREAS, counts.tolist(), strict=True)):
        if not count:
            continue
        counts_here = ~lane_bits(tables.ignored[rows], area)
        hit = lane_bits(tables.matched[rows], area)
        true = np.cumsum(hit & counts_here, axis=1, dtype=np.float64)
        false = np.cumsum(~hit & counts_here, axis=1, dtype=np.float64)
        precision = precision_at_recalls(true, false, np.full(len(THRESHOLDS), float(count)))
        found[f"AP{suffix}"] = precision
        for most in _MOST if not suffix else _MOST[-1:]:
            reached = (hit & counts_here & (tables.rank[rows] < most)).sum(axis=1)
            found[f"AR{suffix or most}"] = reached / count
        if not suffix:
            found["AP50"], found["AP75"] = precision[0], precision[5]
    return found


def _percent(values: list[np.ndarray | None]) -> float | None:
    present = [value.ravel() for value in values if value is not None]
    return 100.0 * float(np.concatenate(present).mean()) if present else None
