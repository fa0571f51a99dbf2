"""Statistics as one NumPy archive: what a run that was stopped goes on from.

    meta        JSON: format version, graph, pictures, names of the tensors
    ranges      float64 [N, 2]: smallest and largest value of each tensor
    counts      int64 [n]: the histograms of all tensors, one behind the other
    bins        int64 [N]: how many of the counts are of each; [0] where ranges alone were collected

Nothing is rounded on the way: `read_statistics(write_statistics(s)) == s`.
"""

import io
import json
import zipfile

import numpy as np

from ..core import InputError
from .histogram import Histogram
from .statistics import Range, Statistics

__all__ = ["read_statistics", "write_statistics"]

FORMAT_VERSION = 2


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
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            meta = json.loads(archive["meta"].tobytes())
            ranges, counts, bins = archive["ranges"], archive["counts"], archive["bins"]
        if meta["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {meta['format_version']!r}")
        names = meta["tensors"]
        tensors = {n: Range(float(r[0]), float(r[1])) for n, r in zip(names, ranges, strict=True)}
        if bins.sum() != len(counts):
            raise ValueError(f"{len(counts)} counts for {bins.sum()} bins")
        each = np.split(counts, np.cumsum(bins)[:-1])
        counted = zip(names, each, strict=True) if len(bins) else ()
        histograms = {name: Histogram(own.copy()) for name, own in counted}
        return Statistics(meta["graph"], int(meta["pictures"]), tensors, histograms)
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
    ) as error:
        raise InputError(
            f"the stored statistics cannot be read ({error}): calibrate again."
        ) from error
