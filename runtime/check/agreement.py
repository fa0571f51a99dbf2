"""Agreement: what an engine does with the instances that the reference finds.

    matched        both find it, with one label
    label changed  both find it at the same place (box IoU 0.5 or more), under different labels
    missed         the reference alone finds it
    invented       the engine alone finds it

Pairs are made within a label first (`fidelity.py`), and then among what is left. Accuracy needs
annotations and averages over them; this needs none, and shows a change that AP hides.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core import Instances
from .fidelity import box_iou, mask_iou, pair_up

__all__ = ["Agreement", "PictureAgreement", "compare_instances"]

_CONFIDENT = 0.5
_BINS = 20
_SWAPPED = 0.5  # of a label's instances, and as many the other way, are a swap


class PictureAgreement(NamedTuple):
    """One picture.

    Attributes:
        box_iou: float64, of the matched pairs.
        score_difference: of the matched pairs, absolute.
        mask_iou: of the matched pairs; None for a model without masks.
        missed: scores of the instances that the reference alone has.
        invented: scores of those that the engine alone has.
        changed: `(reference's label, engine's label)` of each changed label.
        labels: the reference's labels.
    """

    box_iou: np.ndarray
    score_difference: np.ndarray
    mask_iou: np.ndarray | None
    missed: np.ndarray
    invented: np.ndarray
    changed: list[tuple[int, int]]
    labels: list[int]

    @property
    def disagreement(self) -> float:
        """How bad the picture is: scores of what has no partner, and what the pairs lack."""
        lacking = self.box_iou if self.mask_iou is None else self.mask_iou
        alone = float(self.missed.sum() + self.invented.sum()) + len(self.changed)
        return alone + float((1 - lacking).sum()) + float(self.score_difference.sum())


def compare_instances(reference: Instances, found: Instances) -> PictureAgreement:
    """Pair the instances of one picture."""
    overlaps = box_iou(reference.boxes, found.boxes)
    same = reference.labels[:, None] == found.labels[None, :]
    first, second = pair_up(np.where(same, overlaps, 0.0))
    left = np.delete(np.arange(len(reference)), first)
    right = np.delete(np.arange(len(found)), second)
    other_first, other_second = pair_up(overlaps[np.ix_(left, right)])
    changed = zip(
        reference.labels[left[other_first]].tolist(),
        found.labels[right[other_second]].tolist(),
        strict=True,
    )
    gaps = np.abs(reference.scores[first].astype(np.float64) - found.scores[second])
    masks = None
    if reference.masks is not None and found.masks is not None:
        pairs = zip(reference.masks[first], found.masks[second], strict=True)
        masks = np.array([mask_iou(a, b) for a, b in pairs], np.float64)
    return PictureAgreement(
        overlaps[first, second],
        gaps,
        masks,
        reference.scores[np.delete(left, other_first)].astype(np.float64),
        found.scores[np.delete(right, other_second)].astype(np.float64),
        list(changed),
        reference.labels.tolist(),
    )


class Agreement:
    """The agreement over all pictures, added one at a time."""

    def __init__(self) -> None:
        """Start without pictures."""
        self._pictures: list[PictureAgreement] = []

    def add(self, reference: Instances, found: Instances) -> PictureAgreement:
        """Compare one picture's instances, and return what was found."""
        self._pictures.append(compare_instances(reference, found))
        return self._pictures[-1]

    def summary(self, class_names: Sequence[str] | None = None) -> dict[str, Any]:
        """Return JSON data: counts, distributions, changed labels and swapped ones.

        `confident` counts only what has a score of 0.5 or more; a distribution is `min`, `p1`,
        `p10`, `p50`, `mean` and a histogram of 20 bins, or None without pairs.
        """
        missed = _joined([p.missed for p in self._pictures])
        invented = _joined([p.invented for p in self._pictures])
        masks = [p.mask_iou for p in self._pictures if p.mask_iou is not None]
        changed = Counter(pair for p in self._pictures for pair in p.changed)
        labels = Counter(label for p in self._pictures for label in p.labels)
        gaps = _joined([p.score_difference for p in self._pictures])
        return {
            "matched": sum(len(p.box_iou) for p in self._pictures),
            "missed": len(missed),
            "invented": len(invented),
            "label_changed": sum(changed.values()),
            "confident": {
                "missed": int((missed >= _CONFIDENT).sum()),
                "invented": int((invented >= _CONFIDENT).sum()),
            },
            "box_iou": _distribution(_joined([p.box_iou for p in self._pictures]), 0.5),
            "mask_iou": _distribution(_joined(masks), 0.0),
            "score_difference": _distribution(gaps, 0.0),
            "changed_labels": [
                {"reference": _name(a, class_names), "engine": _name(b, class_names), "count": n}
                for (a, b), n in changed.most_common()
            ],
            "swapped_labels": [
                [_name(a, class_names), _name(b, class_names)] for a, b in _swaps(changed, labels)
            ],
        }


def _swaps(changed: Counter, labels: Counter) -> list[tuple[int, int]]:
    """Return pairs of labels that turn into each other more often than not."""
    return [
        (a, b)
        for a, b in sorted(changed)
        if a < b and changed[a, b] > _SWAPPED * labels[a] and changed[b, a] > _SWAPPED * labels[b]
    ]


def _name(label: int, class_names: Sequence[str] | None) -> str:
    known = class_names is not None and 0 <= label < len(class_names)
    return class_names[label] if known and class_names is not None else str(label)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0)


def _distribution(values: np.ndarray, low: float) -> dict[str, Any] | None:
    if not len(values):
        return None
    p1, p10, p50 = np.percentile(values, (1, 10, 50))
    counts, _ = np.histogram(values, _BINS, (low, 1.0))
    return {
        "min": float(values.min()), "p1": float(p1), "p10": float(p10), "p50": float(p50),
        "mean": float(values.mean()), "max": float(values.max()),
        "histogram": {"low": low, "high": 1.0, "counts": counts.tolist()},
    }  # fmt: skip
