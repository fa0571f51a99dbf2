"""A confusion matrix of labels: what each annotation was found as, if it was.

Counted are detections with a score of 0.5 or more, paired with annotations by box IoU of 0.5 or
more, each once: first within a label, then across labels, the largest IoU first. Row by row the
matrix has the annotated categories, and last what is not annotated; column by column the found
ones, and last what was not found. Crowds are no objects: a detection that has no partner and lies
in a crowd by half or more of its area is left out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .fidelity import box_iou, pair_up

__all__ = ["CONFIDENT", "Confusion", "pair_labels"]

CONFIDENT = 0.5
"""The score from which an instance counts as found where a count needs a threshold."""

_SAME_PLACE = 0.5


class Confusion:
    """A confusion matrix over pictures, added one at a time."""

    def __init__(self, categories: dict[int, str]) -> None:
        """Start with zeros; `categories` is id → name."""
        self._names = categories
        self._place = {category: at for at, category in enumerate(sorted(categories))}
        size = len(categories) + 1
        self.counts = np.zeros((size, size), np.int64)

    def add(self, found: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]]) -> None:
        """Add a picture: COCO's result entries and its annotations."""
        sure = [entry for entry in found if entry["score"] >= CONFIDENT]
        sure = [entry for entry in sure if entry["category_id"] in self._place]
        objects = [entry for entry in truth if not entry["iscrowd"]]
        labels, wanted = _labels(sure), _labels(objects)
        boxes, true_boxes = _corners(sure), _corners(objects)
        first, second = pair_labels(box_iou(true_boxes, boxes), wanted, labels)
        nothing = len(self._place)
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            self.counts[self._place[wanted[a]], self._place[labels[b]]] += 1
        for a in set(range(len(objects))) - set(first.tolist()):
            self.counts[self._place[wanted[a]], nothing] += 1
        crowds = _corners([entry for entry in truth if entry["iscrowd"]])
        hidden = _inside(boxes, crowds)
        for b in set(range(len(sure))) - set(second.tolist()):
            if not hidden[b]:
                self.counts[nothing, self._place[labels[b]]] += 1

    def to_json(self) -> dict[str, Any]:
        """Return `labels` (names by row and column, without the last), `counts` and `score`."""
        names = [self._names[category] for category in self._place]
        return {"labels": names, "counts": self.counts.tolist(), "score": CONFIDENT}


def pair_labels(
    overlaps: np.ndarray, first_labels: Sequence[int], second_labels: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Pair two sides by IoU `[N, M]`, within a label first and then whatever the label.

    Returns:
        The paired indices of both sides, intp `[P]` each.
    """
    same = np.array(first_labels).reshape(-1, 1) == np.array(second_labels).reshape(1, -1)
    near = np.where(overlaps >= _SAME_PLACE, overlaps, 0.0)
    first, second = pair_up(np.where(same, near, 0.0))
    near[first] = 0.0
    near[:, second] = 0.0
    further, others = pair_up(near)
    return np.concatenate([first, further]), np.concatenate([second, others])


def _labels(entries: Sequence[dict[str, Any]]) -> list[int]:
    return [entry["category_id"] for entry in entries]


def _corners(entries: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return xyxy, float64 `[N, 4]`, of COCO's xywh."""
    boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _inside(boxes: np.ndarray, crowds: np.ndarray) -> np.ndarray:
    """Return bool `[N]`: whether a crowd's box covers half of a box or more."""
    low = np.maximum(boxes[:, None, :2], crowds[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], crowds[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return (shared >= 0.5 * np.maximum(areas, 1e-9)[:, None]).any(axis=1)
