"""What calibration remembers of each tensor; small, mergeable, independent of picture order.

    merge(collect(A), collect(B)) == collect(A + B)      exactly, for any split and order

which holds because minimum, maximum and counts are associative and commutative. So a run can be
sharded over machines, or stopped and resumed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from ..core import InputError
from ..core.bounds import COUNT
from ..core.typed import Within
from ..core.typed_files import believed
from ..core.words import quoted
from .histogram import BINS, Histogram

__all__ = ["Range", "Statistics"]

FORMAT_VERSION = 3


class HistogramFile(TypedDict):
    """What `Histogram.to_json` writes."""

    bins: list[Annotated[int, Within(0, BINS - 1)]]
    counts: list[Annotated[int, COUNT]]


class StatisticsFile(TypedDict):
    """What `Statistics.to_json` writes."""

    graph: str
    pictures: Annotated[int, COUNT]
    tensors: dict[str, tuple[float, float]]
    histograms: dict[str, HistogramFile]


@dataclass(frozen=True)
class Range:
    """Smallest and largest value that a tensor took, over all elements of all pictures."""

    minimum: float
    maximum: float

    @property
    def amax(self) -> float:
        """Largest absolute value."""
        return max(abs(self.minimum), abs(self.maximum))

    def union(self, other: "Range") -> "Range":
        """Return the smallest range that holds both."""
        return Range(min(self.minimum, other.minimum), max(self.maximum, other.maximum))


@dataclass(frozen=True)
class Statistics:
    """Ranges of the observed tensors of one graph.

    Attributes:
        graph: fingerprint of the graph that they belong to.
        pictures: how many pictures were seen.
        tensors: tensor name -> its range.
        histograms: tensor name -> how often each magnitude was seen, in a sample of its elements;
            empty if ranges alone were collected.
    """

    graph: str
    pictures: int
    tensors: Mapping[str, Range]
    histograms: Mapping[str, Histogram] = field(default_factory=dict)

    def merge(self, other: "Statistics") -> "Statistics":
        """Return the statistics of both sets of pictures together.

        Raises:
            InputError: they come from different graphs, or observed different tensors.
        """
        if self.graph != other.graph:
            raise InputError(
                f"statistics of graph {self.graph} and of graph {other.graph} cannot be merged: "
                "collect both from one model."
            )
        odd = sorted(
            (self.tensors.keys() ^ other.tensors.keys())
            | (self.histograms.keys() ^ other.histograms.keys())
        )
        if odd:
            raise InputError(
                f"tensor {odd[0]} is in one of the statistics only: collect both alike."
            )
        merged = {name: own.union(other.tensors[name]) for name, own in self.tensors.items()}
        counted = {n: own.merge(other.histograms[n]) for n, own in self.histograms.items()}
        return Statistics(self.graph, self.pictures + other.pictures, merged, counted)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `from_json` is its exact inverse."""
        return {
            "format_version": FORMAT_VERSION,
            "graph": self.graph,
            "pictures": self.pictures,
            "tensors": {n: [r.minimum, r.maximum] for n, r in self.tensors.items()},
            "histograms": {n: h.to_json() for n, h in self.histograms.items()},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Statistics":
        """Return the statistics that `to_json` wrote.

        Raises:
            InputError: another format version, or a range that is not finite or upside down.
        """
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise InputError(
                f"statistics have format version {quoted(version)}, and this maskrt "
                f"reads version {FORMAT_VERSION}: calibrate again."
            )
        believed(data, StatisticsFile, "statistics", "calibrate again", InputError)
        tensors = {name: Range(*ends) for name, ends in data["tensors"].items()}
        for name, seen in tensors.items():
            if not (math.isfinite(seen.amax) and seen.minimum <= seen.maximum):
                raise InputError(
                    f"statistics of tensor {name[:80]} are not a range: calibrate again."
                )
        for name, counted in data["histograms"].items():
            if len(counted["bins"]) != len(counted["counts"]):
                raise InputError(f"statistics of tensor {name} lack counts: calibrate again.")
        histograms = {n: Histogram.from_json(h) for n, h in data["histograms"].items()}
        return cls(data["graph"], int(data["pictures"]), tensors, histograms)
