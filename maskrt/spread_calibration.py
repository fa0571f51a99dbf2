"""Calibration on a Dask cluster: each worker observes its share, and the statistics are merged.

Statistics do not depend on the order or the split of the pictures (`calib/statistics.py`), so the
recipe is the one that a single machine would write.
"""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from . import calib
from .arguments import calibration_pictures
from .calibrating import Observed, forget, observe, settled
from .core import Bundle, InputError, Precision, Progress, silent
from .core.bundle import MODEL, RECIPE
from .spreading import cluster, shards_of

__all__ = ["calibrate_on_cluster"]

_STALE = ("engines/", "report/", "search.json")  # made from the recipe that is replaced


def calibrate_on_cluster(
    bundle: Bundle | Path | str,
    calibration: Path | str,
    address: str,
    *,
    precision: Precision | str = Precision.INT8,
    method: str = calib.DEFAULT_METHOD,
    progress: Progress = silent,
) -> Bundle:
    """Do what `maskrt.calibrate` does, with the workers of the Dask scheduler at `address`.

    Every worker must see bundle and pictures under the same paths.
    """
    opened = Bundle.open(bundle)
    wanted = Precision.parse(precision)
    files = calibration_pictures(Path(calibration).resolve(), wanted)
    if not files:
        raise InputError(f"there is no picture in {calibration}: name a folder that holds some.")
    with cluster(address) as client:
        statistics, facts = settled(_observe(client, opened, files, progress), len(files))
    model = onnx.load_model_from_string(opened.read(MODEL))
    recipe = calib.make_recipe(model, wanted, statistics, method=method)
    recipe = replace(recipe, calibration={**recipe.calibration, **facts})
    with opened.edit() as staged:
        for prefix in _STALE:
            staged.remove(prefix)
        staged.write(RECIPE, recipe.to_json())
        staged.update(precision=wanted)
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
    model = onnx.load_model_from_string(bundle.read(MODEL))
    seen = observe(model, files, bundle.manifest.input, total=total)
    forget(model, files, bundle.manifest.input)
    return seen
