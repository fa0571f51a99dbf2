"""The few pictures on which an engine and its reference disagree most, drawn for the report."""

import heapq
from collections.abc import Callable

import numpy as np

from ..core import Instances
from ..runtime.check import CocoImage

__all__ = ["Worst"]

_REPORT_PICTURES = 6


class Worst:
    """The few pictures on which engine and reference disagree most, drawn."""

    def __init__(self) -> None:
        """Begin with none."""
        self._heap: list[tuple[float, int, str, np.ndarray, np.ndarray]] = []

    def add(
        self,
        entry: CocoImage,
        image: Callable[[], np.ndarray],
        expected: Instances,
        found: Instances,
        disagreement: float,
    ) -> None:
        """Draw a picture, if it is among the worst so far; `image` returns its pixels."""
        if len(self._heap) == _REPORT_PICTURES and disagreement <= self._heap[0][0]:
            return
        pixels = image()
        drawn = (expected.draw(pixels), found.draw(pixels))
        item = (disagreement, -entry.id, entry.path.name, *drawn)
        if len(self._heap) < _REPORT_PICTURES:
            heapq.heappush(self._heap, item)
        else:
            heapq.heapreplace(self._heap, item)

    def pictures(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Return (caption, reference, engine), the worst first."""
        ordered = sorted(self._heap, key=lambda item: (-item[0], -item[1]))
        return [(f"{name}, disagreement {bad:.2f}", a, b) for bad, _, name, a, b in ordered]
