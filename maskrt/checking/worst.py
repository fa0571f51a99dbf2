"""The pictures on which an engine and its reference disagree most, kept for the report."""

import heapq
from collections.abc import Callable

import numpy as np

from ..core import Instances
from ..runtime.check import CocoDataset, CocoImage, PictureAgreement, Triple, make_triple

__all__ = ["Worst"]

_REPORT_PICTURES = 48


class Worst:
    """The pictures on which engine and reference disagree most, the worst 48 of them."""

    def __init__(self, dataset: CocoDataset) -> None:
        """Begin with none; the annotations are drawn beside what was found."""
        self._heap: list[tuple[float, int, Triple]] = []
        self._categories = dataset.categories
        self._truth: dict[int, list[dict]] = {}
        for entry in dataset.annotations:
            self._truth.setdefault(entry["image_id"], []).append(entry)

    def add(
        self,
        entry: CocoImage,
        image: Callable[[], np.ndarray],
        expected: Instances,
        found: Instances,
        compared: PictureAgreement,
    ) -> None:
        """Keep a picture, if it is among the worst so far; `image` returns its pixels."""
        bad = compared.disagreement
        if len(self._heap) == _REPORT_PICTURES and bad <= self._heap[0][0]:
            return
        triple = make_triple(
            entry.path.name, image(), self._truth.get(entry.id, []), self._categories, expected,
            found, compared,
        )  # fmt: skip
        item = (bad, -entry.id, triple)
        if len(self._heap) < _REPORT_PICTURES:
            heapq.heappush(self._heap, item)
        else:
            heapq.heapreplace(self._heap, item)

    def triples(self) -> list[Triple]:
        """Return them, the worst first."""
        ordered = sorted(self._heap, key=lambda item: (-item[0], -item[1]))
        return [triple for _, _, triple in ordered]
