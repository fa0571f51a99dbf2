"""Precision over recall, and precision, recall and F1 over score, of each category.

The precisions are those that AP is the mean of: at each of the 101 recalls the largest precision
at that recall or beyond (pycocotools' `eval["precision"]`, all areas, 100 detections). A point of
the second kind is one of the score thresholds 0, 0.01, … 1: what is left of the detections when
those below are dropped, at IoU 0.5.

    F1 = 2 TP / (2 TP + FP + FN)

so it is 0 where nothing is found, and the threshold at which it is largest is a good one to deploy.
"""

from typing import Any

import numpy as np

from .assignment import THRESHOLDS, lane_bits
from .average_precision import precision_at_recalls
from .records import Tables

__all__ = ["SCORES", "class_curves", "f1_over_score", "precision_over_recall"]

SCORES = np.round(np.linspace(0.0, 1.0, 101), 2)
_DIGITS = 5


def precision_over_recall(tables: Tables, category: int) -> np.ndarray:
    """Return float64 `[10, 101]`: precision, 0 to 1, by IoU threshold and recall."""
    true, false, count = _counted(tables, category)
    counts = np.full(len(THRESHOLDS), float(count))
    return precision_at_recalls(np.cumsum(true, axis=1), np.cumsum(false, axis=1), counts)


def f1_over_score(tables: Tables, category: int) -> np.ndarray:
    """Return float64 `[3, 101]`: precision, recall and F1 at IoU 0.5 by score threshold.

    Precision is 1 where no detection is left.
    """
    true, false, count = _counted(tables, category)
    scores = tables.score[tables.ordered(category)]
    kept = np.searchsorted(-scores, -SCORES, side="right")
    hits = np.append(0.0, np.cumsum(true[0]))[kept]
    wrong = np.append(0.0, np.cumsum(false[0]))[kept]
    found = hits + wrong
    precision = np.where(found > 0, hits / np.maximum(found, 1), 1.0)
    f1 = 2 * hits / np.maximum(found + count, 1)
    return np.array([precision, hits / count, f1])


def class_curves(tables: Tables, names: dict[int, str]) -> dict[str, dict[str, Any]]:
    """Return JSON data of each category that is annotated, by its name.

    `precision` has three lists over the 101 recalls: at IoU 0.5, at 0.75, and the mean over all
    ten thresholds; `f1` is a list over the 101 scores; `best` is the score threshold at which F1 is
    largest (the lowest of equals), with `f1`, `precision` and `recall` there.
    """
    found = {}
    for category in tables.categories():
        by_recall = precision_over_recall(tables, category)
        by_score = f1_over_score(tables, category)
        at = int(by_score[2].argmax())
        found[names[category]] = {
            "precision": {
                "50": _rounded(by_recall[0]),
                "75": _rounded(by_recall[5]),
                "mean": _rounded(by_recall.mean(axis=0)),
            },
            "f1": _rounded(by_score[2]),
            "best": {
                "score": float(SCORES[at]),
                **dict(zip(("precision", "recall", "f1"), _rounded(by_score[:, at]), strict=True)),
            },
        }
    return found


def _counted(tables: Tables, category: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return true and false detections, float64 `[10, N]` in COCO's order, and the annotations."""
    rows = tables.ordered(category)
    count = int(tables.truth_count[tables.truth_category == category][:, 0].sum())
    counts_here = ~lane_bits(tables.ignored[rows], 0)
    hit = lane_bits(tables.matched[rows], 0)
    return (hit & counts_here).astype(np.float64), (~hit & counts_here).astype(np.float64), count


def _rounded(values: np.ndarray) -> list[float]:
    return np.round(values, _DIGITS).tolist()
