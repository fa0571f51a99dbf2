"""What calibration remembers of each tensor; small, mergeable, independent of picture order.

    merge(collect(A), collect(B)) == collect(A + B)      exactly, for any split and order

which holds because minimum, maximum and a count are associative and commutative. So a run can be
sharded over machines, or stopped and resumed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core import InputError

__all__ = ["Range", "Statistics"]

FORMAT_VERSION = 1


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
    """

    graph: str
    pictures: int
    tensors: Mapping[str, Range]

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
        if self.tensors.keys() != other.tensors.keys():
            odd = sorted(self.tensors.keys() ^ other.tensors.keys())[0]
            raise InputError(f"tensor {odd} is in one of the statistics only: collect both alike.")
        merged = {name: own.union(other.tensors[name]) for name, own in self.tensors.items()}
        return Statistics(self.graph, self.pictures + other.pictures, merged)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `from_json` is its exact inverse."""
        return {
            "format_version": FORMAT_VERSION,
            "graph": self.graph,
            "pictures": self.pictures,
            "tensors": {n: [r.minimum, r.maximum] for n, r in self.tensors.items()},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Statistics":
        """Return the statistics that `to_json` wrote.

        Raises:
            InputError: another format version, or a range that is not finite or upside down.
        """
        if data.get("format_version") != FORMAT_VERSION:
            raise InputError(
                f"statistics have format version {data.get('format_version')!r}, and this maskrt "
                f"reads version {FORMAT_VERSION}: calibrate again."
            )
        tensors = {name: Range(*ends) for name, ends in data["tensors"].items()}
        for name, seen in tensors.items():
            if not (math.isfinite(seen.amax) and seen.minimum <= seen.maximum):
                raise InputError(f"statistics of tensor {name} are not a range: calibrate again.")
        return cls(data["graph"], int(data["pictures"]), tensors)
