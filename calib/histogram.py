"""A histogram of magnitudes that never has to widen: its bins are the leading bits of the float.

The bin of x is read off its float32 pattern: exponent and the first 10 bits of the mantissa, so
bins are 0.1 % wide at any size, from 2^-12 to the largest float32. What is smaller falls into the
first bin. No range has to be known first, so one pass is enough; counts add, so

    histogram(A) + histogram(B) == histogram(A and B)      exactly, in any order.

Bins behind the last one in use are not stored: up to 2^20 that is 256 KiB, and only a tensor with
larger values takes more, at most 1.1 MiB.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["BINS", "Histogram", "bin_edges", "bin_of"]

_MANTISSA = 10
_FIRST, _USUAL, _LAST = -12, 20, 128  # exponents where bins begin, mostly end, and end
BINS = (_LAST - _FIRST) << _MANTISSA
_STORED = (_USUAL - _FIRST) << _MANTISSA
_OFFSET = (127 + _FIRST) << _MANTISSA


@dataclass(eq=False)
class Histogram:
    """How often each magnitude was seen.

    Attributes:
        counts: int64 `[n]`, of the first n of `BINS` bins; the others are empty.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(_STORED, np.int64))

    @property
    def edges(self) -> np.ndarray:
        """Where the stored bins begin, and where the last of them ends: `[n + 1]`."""
        return bin_edges()[: len(self.counts) + 1]

    def add(self, values: np.ndarray) -> None:
        """Count finite float32 `values`, of any shape, in place."""
        found = np.bincount(bin_of(values).ravel(), minlength=len(self.counts))
        found[: len(self.counts)] += self.counts
        self.counts = found

    def merge(self, other: "Histogram") -> "Histogram":
        """Return the histogram of both sets of values."""
        fewer, more = sorted((self.counts, other.counts), key=len)
        merged = more.copy()
        merged[: len(fewer)] += fewer
        return Histogram(merged)

    def __eq__(self, other: object) -> bool:
        """Whether every bin holds the same count."""
        if not isinstance(other, Histogram):
            return False
        fewer, more = sorted((self.counts, other.counts), key=len)
        return np.array_equal(fewer, more[: len(fewer)]) and not more[len(fewer) :].any()

    def to_json(self) -> dict[str, Any]:
        """Return the bins that are not empty; `from_json` is its exact inverse."""
        used = np.flatnonzero(self.counts)
        return {"bins": used.tolist(), "counts": self.counts[used].tolist()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Histogram":
        """Return the histogram that `to_json` wrote."""
        used = np.array(data["bins"], np.intp)
        counts = np.zeros(BINS, np.int64)
        counts[used] = data["counts"]
        return cls(counts[: max(_STORED, used.max(initial=0) + 1)].copy())


def bin_of(values: np.ndarray) -> np.ndarray:
    """Return the bin of each float32 value, by its magnitude."""
    pattern = np.ascontiguousarray(values, np.float32).view(np.uint32)
    leading = ((pattern & 0x7FFFFFFF) >> (23 - _MANTISSA)).astype(np.int32) - _OFFSET
    return np.clip(leading, 0, BINS - 1, out=leading)


@lru_cache
def bin_edges() -> np.ndarray:
    """Return the magnitudes at which bins begin, and where the last one ends: `[BINS + 1]`."""
    patterns = (np.arange(BINS + 1, dtype=np.uint32) + _OFFSET) << (23 - _MANTISSA)
    edges = patterns.view(np.float32).astype(np.float64)
    edges[0], edges[-1] = 0.0, 2.0**_LAST  # which is no float32
    return edges
