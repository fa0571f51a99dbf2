"""Calibration on a Dask cluster: each worker observes its share, and the statistics are merged.

Statistics do not depend on the order or the split of the pictures (`calib/statistics.py`), so the
recipe is the one that a single machine would write.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import calib
from ..calib.bundled import read_model
from ..compiling.stages import remove_stale, store_recipe
from ..core import Bundle, Precision, Progress, silent
from ..precision.observation import Observed, forget, observe, settled
from ..precision.request import RecipeRequest
from .check import cluster, shards_of

__all__ = ["calibrate_on_cluster"]


def calibrate_on_cluster(
    bundle: Bundle | Path | str,
    calibration: Path | str,
    address: str,
    *,
    precision: Precision | str = Precision.INT8,
    method: str = calib.DEFAULT_METHOD,
    keep: Mapping[str, Precision | str] | None = None,
    keep_outputs: bool = False,
    progress: Progress = silent,
) -> Bundle:
    """Do what `maskrt.calibrate` does, with the workers of the Dask scheduler at `address`.

    Every worker must see bundle and pictures under the same paths.
    """
    opened = Bundle.open(bundle)
    asked = RecipeRequest.of(
        precision, Path(calibration).resolve(), method, keep=keep, keep_outputs=keep_outputs
    )
    asked.check_found_by_calibration()
    files = list(asked.pictures or ())
    with cluster(address) as client:
        statistics, facts = settled(_observe(client, opened, files, progress), len(files))
    model = read_model(opened)
    with opened.edit() as staged:
        remove_stale(staged)
        store_recipe(staged, model, asked, statistics, facts)
    return opened


def _observe(client: Any, bundle: Bundle, files: list[Any], progress: Progress) -> Observed:
    folder = str(bundle.path.resolve())
    shards = shards_of(files, bundle.manifest.input.batch)
    tasks = [client.submit(_shard, folder, shard, len(files), pure=False) for shard in shards]
    done = 0
    progress("calibrate", done, len(files))
    found = []
    for task, shard in zip(tasks, shards, strict=True):
        found.append(task.result())
        done += len(shard)
        progress("calibrate", done, len(files))
    return functools.reduce(Observed.merge, found)


def _shard(folder: str, files: list[Any], total: int) -> Observed:
    """Observe one shard of `total` pictures, on a worker."""
    bundle = Bundle.open(folder)
    model = read_model(bundle)
    seen = observe(model, files, bundle.manifest.input, total=total)
    forget(model, files, bundle.manifest.input)
    return seen
