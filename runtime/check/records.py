"""Records: what AP needs to know of a data set's detections, 35 bytes each.

Once a picture's detections are assigned, its masks are no longer needed. So large sets stream, and
AP over any weighting of the pictures (`bootstrap.py`) needs no second assignment.
"""

from dataclasses import dataclass, field

import numpy as np

from .assignment import AREAS, Assignment

__all__ = ["Records", "Tables"]


@dataclass(frozen=True)
class Tables:
    """Finished records.

    Attributes:
        image: int32 `[N]`, place of the picture in the order of ascending ids.
        category: int64 `[N]`, COCO's id.
        score: float64 `[N]`.
        rank: int16 `[N]`, place among the picture's detections of that category, best first.
        matched: uint64 `[N]`, see `assignment.py`.
        ignored: uint64 `[N]`.
        truth_image: int32 `[M]`: a row for each picture and category that is annotated.
        truth_category: int64 `[M]`.
        truth_count: int32 `[M, 4]`, annotations that count, by area range.
    """

    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    truth_image: np.ndarray
    truth_category: np.ndarray
    truth_count: np.ndarray

    def categories(self) -> list[int]:
        """Return the categories that any annotation counts for, ascending."""
        return sorted(set(self.truth_category[self.truth_count[:, 0] > 0].tolist()))

    def ordered(self, category: int) -> np.ndarray:
        """Return the rows of a category as COCO ranks them: by score, equals by picture."""
        rows = np.flatnonzero(self.category == category)
        rows = rows[np.lexsort((self.rank[rows], self.image[rows]))]
        return rows[np.argsort(-self.score[rows], kind="mergesort")]


@dataclass
class Records:
    """Records that grow by one picture and category at a time."""

    _found: list[tuple[int, int, np.ndarray, Assignment]] = field(default_factory=list)
    _truth: list[tuple[int, int, np.ndarray]] = field(default_factory=list)

    def add(self, image: int, category: int, scores: np.ndarray, assigned: Assignment) -> None:
        """Add the detections of a picture and category, best first."""
        if len(scores):
            self._found.append((image, category, scores, assigned))

    def add_truth(self, image: int, category: int, counts: np.ndarray) -> None:
        """Add how many annotations count, by area range."""
        self._truth.append((image, category, counts))

    def tables(self) -> Tables:
        """Return everything added so far."""
        sizes = [len(scores) for _, _, scores, _ in self._found]
        return Tables(
            image=np.repeat(_column(self._found, 0, np.int32), sizes),
            category=np.repeat(_column(self._found, 1, np.int64), sizes),
            score=_joined([scores for _, _, scores, _ in self._found], np.float64),
            rank=_joined([np.arange(size) for size in sizes], np.int16),
            matched=_joined([a.matched for *_, a in self._found], np.uint64),
            ignored=_joined([a.ignored for *_, a in self._found], np.uint64),
            truth_image=_column(self._truth, 0, np.int32),
            truth_category=_column(self._truth, 1, np.int64),
            truth_count=np.array([c for *_, c in self._truth], np.int32).reshape(-1, len(AREAS)),
        )


def _column(rows: list, index: int, kind: type) -> np.ndarray:
    return np.array([row[index] for row in rows], kind)


def _joined(parts: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate(parts).astype(kind) if parts else np.empty(0, kind)
