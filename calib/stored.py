"""Statistics as one NumPy archive: what a run that was stopped goes on from.

    meta        JSON: format version, graph, pictures, names of the tensors
    ranges      float64 [N, 2]: smallest and largest value of each tensor
    counts      int64 [n]: the histograms of all tensors, one behind the other
    bins        int64 [N]: how many of the counts are of each; [0] where ranges alone were collected

Nothing is rounded on the way: `read_statistics(write_statistics(s)) == s`.
"""

import io
import json
from typing import Annotated, TypedDict

import numpy as np

from ..core import InputError
from ..core.bounds import COUNT
from ..core.typed import fault
from ..core.typed_arrays import Declared, read_archive
from ..core.typed_files import plain_json
from .histogram import BINS, Histogram
from .statistics import Range, Statistics

__all__ = ["read_statistics", "write_statistics"]

FORMAT_VERSION = 2
_ARRAYS = {
    "meta": Declared("uint8", (None,)), "ranges": Declared("float64", (None, 2)),
    "counts": Declared("int64", (None,)), "bins": Declared("int64", (None,)),
}  # fmt: skip


class _Meta(TypedDict):
    format_version: int
    graph: str
    pictures: Annotated[int, COUNT]
    tensors: list[str]


def write_statistics(statistics: Statistics) -> bytes:
    """Return `statistics` as an archive."""
    names = list(statistics.tensors)
    meta = {
        "format_version": FORMAT_VERSION,
        "graph": statistics.graph,
        "pictures": statistics.pictures,
        "tensors": names,
    }
    seen = [statistics.tensors[name] for name in names]
    ranges = np.array([[r.minimum, r.maximum] for r in seen], np.float64).reshape(-1, 2)
    counts = [statistics.histograms[name].counts for name in names if statistics.histograms]
    bins = np.array([len(own) for own in counts], np.int64)
    target = io.BytesIO()
    np.savez(
        target,
        meta=np.frombuffer(json.dumps(meta).encode(), np.uint8),
        ranges=ranges,
        counts=np.concatenate([np.zeros(0, np.int64), *counts]),
        bins=bins,
    )
    return target.getvalue()


def read_statistics(data: bytes) -> Statistics:
    """Return the statistics that `write_statistics` wrote.

    Raises:
        InputError: another format version, or an archive that is damaged.
    """
    try:
        return _statistics(read_archive(data, _ARRAYS))
    except ValueError as error:
        raise InputError(
            f"the stored statistics cannot be read ({error}): calibrate again."
        ) from error


def _statistics(arrays: dict[str, np.ndarray]) -> Statistics:
    """Return what the arrays say, or raise `ValueError`."""
    meta = plain_json(arrays["meta"].tobytes())
    if (wrong := fault(meta, _Meta)) is not None:
        raise ValueError(f"in its meta {wrong}")
    if meta["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format version {meta['format_version']!r}")
    names, ranges, counts = meta["tensors"], arrays["ranges"], arrays["counts"]
    bins = arrays["bins"]
    if len(set(names)) != len(names) or len(ranges) != len(names):
        raise ValueError("its tensors are not as many as their ranges")
    if not np.isfinite(ranges).all() or (ranges[:, 0] > ranges[:, 1]).any():
        raise ValueError("a range is none")
    if (bins < 0).any() or (bins > BINS).any() or bins.sum() != len(counts):
        raise ValueError(f"{len(counts)} counts for {bins.sum()} bins")
    if (counts < 0).any() or len(bins) not in (0, len(names)):
        raise ValueError("its counts are none")
    tensors = {n: Range(float(r[0]), float(r[1])) for n, r in zip(names, ranges, strict=True)}
    each = np.split(counts, np.cumsum(bins)[:-1])
    counted = zip(names, each, strict=True) if len(bins) else ()
    histograms = {name: Histogram(own.copy()) for name, own in counted}
    return Statistics(meta["graph"], meta["pictures"], tensors, histograms)
