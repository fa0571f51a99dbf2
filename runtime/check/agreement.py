"""Agreement: what an engine does with the instances that the reference finds.

    matched        both find it, with one label
    label changed  both find it at the same place (box IoU 0.5 or more), under different labels
    missed         the reference alone finds it
    invented       the engine alone finds it

Pairs are made by box IoU (`fidelity.py`): of confident instances (score 0.5 or more on both sides)
within a label, then across labels, and then of the rest likewise. Confident ones go first because a
detector often has a second, faint label at the same place, which would hide that the first changed.

Accuracy needs annotations and averages over them; this needs none, and shows what AP hides.
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
_SWAPPED = 0.5  # of a label's confident pairs, and as many of the other's, are a swap


class PictureAgreement(NamedTuple):
    """One picture.

    Attributes:
        box_iou: float64, of the matched pairs.
        score_difference: of the matched pairs, absolute.
        mask_iou: of the matched pairs; None for a model without masks.
        missed: scores of the instances that the reference alone has.
        invented: scores of those that the engine alone has.
        changed: `(reference's label, engine's label)` of each changed label.
        sure: both labels of each pair of confident instances.
        score_shift: of the matched pairs, engine minus reference.
        box_shift: of the matched pairs, pixels: the farthest that one of a box's sides moved.
        pairs: intp `[P, 2]`, the places of both sides' paired instances, whatever their labels.
        labels: int64 of the matched pairs, of the missed and of the invented.
    """

    box_iou: np.ndarray
    score_difference: np.ndarray
    mask_iou: np.ndarray | None
    missed: np.ndarray
    invented: np.ndarray
    changed: list[tuple[int, int]]
    sure: list[tuple[int, int]]
    score_shift: np.ndarray
    box_shift: np.ndarray
    pairs: np.ndarray
    labels: tuple[np.ndarray, np.ndarray, np.ndarray]

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
    confident = (reference.scores >= _CONFIDENT)[:, None] & (found.scores >= _CONFIDENT)[None, :]
    left, right = np.ones(len(reference), bool), np.ones(len(found), bool)
    tiers = []
    for allowed in (same & confident, confident, same, np.ones_like(same)):
        possible = allowed & left[:, None] & right[None, :]
        tiers.append(pair_up(np.where(possible, overlaps, 0.0)))
        left[tiers[-1][0]] = right[tiers[-1][1]] = False
    first, second = (np.concatenate([tier[side] for tier in tiers]) for side in (0, 1))
    labels = list(zip(reference.labels[first].tolist(), found.labels[second].tolist(), strict=True))
    matched = same[first, second]
    kept, twins = first[matched], second[matched]
    masks = None
    if reference.masks_source is not None and found.masks_source is not None:
        both = zip(reference.each_crop(kept), found.each_crop(twins), strict=True)
        masks = np.array([mask_iou(a, b) for a, b in both], np.float64)
    shift = found.scores[twins].astype(np.float64) - reference.scores[kept]
    sides = np.abs(found.boxes[twins].astype(np.float64) - reference.boxes[kept])
    return PictureAgreement(
        overlaps[kept, twins],
        np.abs(shift),
        masks,
        reference.scores[left].astype(np.float64),
        found.scores[right].astype(np.float64),
        [(a, b) for a, b in labels if a != b],
        labels[: len(tiers[0][0]) + len(tiers[1][0])],
        shift,
        sides.max(axis=1, initial=0.0),
        np.stack([first, second], axis=1),
        (reference.labels[kept], reference.labels[left], found.labels[right]),
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
        `p10`, `p50`, `mean` and a histogram of 20 bins, or None without pairs. `score_shift` is
        engine minus reference, `box_shift` is in pixels; `by_label` counts by the reference's name.
        """
        missed = _joined([p.missed for p in self._pictures])
        invented = _joined([p.invented for p in self._pictures])
        masks = [p.mask_iou for p in self._pictures if p.mask_iou is not None]
        changed = Counter(pair for p in self._pictures for pair in p.changed)
        sure = Counter(pair for p in self._pictures for pair in p.sure)
        gaps = _joined([p.score_difference for p in self._pictures])
        shifts = _joined([p.score_shift for p in self._pictures])
        moved = _joined([p.box_shift for p in self._pictures])
        widest = _reach(shifts)
        return {
            "matched": sum(len(p.box_iou) for p in self._pictures),
            "missed": len(missed),
            "invented": len(invented),
            "label_changed": sum(changed.values()),
            "confident": {
                "score": _CONFIDENT,
                "missed": int((missed >= _CONFIDENT).sum()),
                "invented": int((invented >= _CONFIDENT).sum()),
            },
            "box_iou": _distribution(_joined([p.box_iou for p in self._pictures]), 0.5),
            "mask_iou": _distribution(_joined(masks), 0.0),
            "score_difference": _distribution(gaps, 0.0),
            "score_shift": _distribution(shifts, -widest, widest),
            "box_shift": _distribution(moved, 0.0, _reach(moved)),
            "by_label": self._by_label(class_names),
            "changed_labels": [
                {"reference": _name(a, class_names), "engine": _name(b, class_names), "count": n}
                for (a, b), n in changed.most_common()
            ],
            "swapped_labels": [
                [_name(a, class_names), _name(b, class_names)] for a, b in _swaps(sure)
            ],
        }

    def _by_label(self, class_names: Sequence[str] | None) -> dict[str, dict[str, int]]:
        counts: dict[int, Counter] = {}
        for picture in self._pictures:
            for what, labels in zip(("matched", "missed", "invented"), picture.labels, strict=True):
                for label in labels.tolist():
                    counts.setdefault(label, Counter())[what] += 1
            for label, _ in picture.changed:
                counts.setdefault(label, Counter())["label_changed"] += 1
        whats = ("matched", "missed", "invented", "label_changed")
        return {
            _name(label, class_names): {what: counts[label][what] for what in whats}
            for label in sorted(counts)
        }


def _swaps(sure: Counter) -> list[tuple[int, int]]:
    """Return pairs of labels that turn into each other more often than not."""
    total: Counter = Counter()
    for (label, _), count in sure.items():
        total[label] += count
    return [
        (a, b)
        for a, b in sorted(sure)
        if a < b and sure[a, b] > _SWAPPED * total[a] and sure[b, a] > _SWAPPED * total[b]
    ]


def _name(label: int, class_names: Sequence[str] | None) -> str:
    known = class_names is not None and 0 <= label < len(class_names)
    return class_names[label] if known and class_names is not None else str(label)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0)


def _reach(values: np.ndarray) -> float:
    """Return how far a histogram has to reach to show all but the outermost percent of values."""
    return max(float(np.percentile(np.abs(values), 99)), 1e-6) if len(values) else 1.0


def _distribution(values: np.ndarray, low: float, high: float = 1.0) -> dict[str, Any] | None:
    if not len(values):
        return None
    p1, p10, p50 = np.percentile(values, (1, 10, 50))
    counts, _ = np.histogram(np.clip(values, low, high), _BINS, (low, high))
    return {
        "min": float(values.min()), "p1": float(p1), "p10": float(p10), "p50": float(p50),
        "mean": float(values.mean()), "max": float(values.max()),
        "histogram": {"low": low, "high": high, "counts": counts.tolist()},
    }  # fmt: skip
