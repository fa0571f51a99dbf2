"""The calibration pass over pictures as users have them: some broken, and runs that are stopped.

`calib` observes batches; here they are read and letterboxed. What comes of bad input:

| pictures | result |
|---|---|
| a file that cannot be read | skipped, and named in the recipe; an error above 1 % of all |
| one, or none | an error: the ranges of one picture are those of that picture |
| all of one colour, such as black | an error: nothing in them lights a feature up |
| one that makes an activation NaN | an error that names the tensor (`calib/observe.py`) |

An error leaves the recipe that the bundle had.

**A pass that was stopped goes on.** Every few seconds the statistics so far are written to
`calibration/` in the cache folder, under a key of graph, observed tensors, input, pictures (path,
size, time) and versions. The next run of the same pass begins behind the last picture in them.
Batches are cut where they would have been without the stop, so the recipe is the same to the last
byte. A checkpoint that does not fit is none.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np
import onnx

from .. import __version__, calib
from ..calib.fingerprint import fingerprint
from ..calib.stored import read_statistics, write_statistics
from ..core import InputError, InputSpec, MaskrtError, Progress, require, silent
from ..core.bounds import COUNT
from ..core.typed_files import parsed
from ..runtime import letterbox_batches
from ..runtime.build.cache import kept_folder
from ..runtime.pictures import load_picture, load_readable

__all__ = ["Observed", "forget", "observe", "settled"]

_SKIPPED_SHARE = 0.01
_EVERY_SECONDS = 5.0
_ABANDONED_SECONDS = 7 * 24 * 3600.0
_FEWEST = 2
_STAGE = "calibrate"


@dataclass(frozen=True)
class Observed:
    """What a pass saw, or a share of one.

    Attributes:
        statistics: of all pictures that could be read.
        skipped: one sentence for each picture that could not.
        plain: how many pictures were of one colour.
    """

    statistics: calib.Statistics
    skipped: tuple[str, ...] = ()
    plain: int = 0

    def merge(self, other: "Observed") -> "Observed":
        """Return what both saw together; a share without a readable picture adds none."""
        seen = [part for part in (self.statistics, other.statistics) if part.pictures]
        both = seen[0].merge(seen[1]) if len(seen) == 2 else (seen or [self.statistics])[0]
        return Observed(both, self.skipped + other.skipped, self.plain + other.plain)


def observe(
    model: onnx.ModelProto,
    pictures: Sequence[Any],
    spec: InputSpec,
    progress: Progress = silent,
    *,
    total: int | None = None,
) -> Observed:
    """Run `pictures` through `model`, from where an earlier run of the same was stopped.

    Args:
        model: the canonical FP32 graph.
        pictures: paths or arrays.
        spec: the canvas to letterbox to.
        progress: told what goes on.
        total: pictures of the whole calibration, where these are a share of it.

    Raises:
        InputError: more than 1 % of `total` cannot be read, or an activation is not finite.
    """
    checkpoint = _Checkpoint(model, pictures, spec)
    collector, done, before = _begun(model, checkpoint)
    skipped, plain = (list(before.skipped), before.plain) if before else ([], 0)
    progress(_STAGE, done, len(pictures))
    while done < len(pictures):
        images: list[np.ndarray] = []
        while len(images) < spec.batch and done < len(pictures):
            image = load_readable(pictures[done], skipped)
            done += 1
            if image is None:
                _check_skipped(skipped, total or len(pictures))
            else:
                images.append(image)
        for canvases, real in letterbox_batches(images, spec):
            collector.add(canvases[:real])
        plain += sum(map(_is_plain, images))
        checkpoint.write_sometimes(done, collector, tuple(skipped), plain)
        progress(_STAGE, done, len(pictures))
    return Observed(collector.statistics, tuple(skipped), plain)


def _begun(
    model: onnx.ModelProto, checkpoint: "_Checkpoint"
) -> tuple[calib.Collector, int, Observed | None]:
    """Return a collector, how many pictures it has behind it, and what was seen in them."""
    done, before = checkpoint.read()
    if before is not None:
        with contextlib.suppress(InputError):  # it is of another pass
            return calib.Collector(model, start=before.statistics), done, before
    return calib.Collector(model), 0, None


def settled(observed: Observed, total: int) -> tuple[calib.Statistics, dict[str, Any]]:
    """Return the statistics, and what a recipe says of them beyond their number.

    Args:
        observed: of all pictures.
        total: how many there were.

    Raises:
        InputError: there are too few pictures, or too many that could not be read, or none that
            shows anything.
    """
    _check_skipped(observed.skipped, total)
    count = observed.statistics.pictures
    if count < _FEWEST:
        raise InputError(
            f"{'one picture' if count else 'no picture'} is not enough to calibrate with: give at "
            f"least {_FEWEST}, and better 100, such as the engine will see."
        )
    if observed.plain == count:
        raise InputError(
            f"all {count} calibration pictures are of one colour, such as black, so nothing is "
            "known of features: give pictures such as the engine will see."
        )
    return observed.statistics, {"skipped": list(observed.skipped)} if observed.skipped else {}


def forget(model: onnx.ModelProto, pictures: Sequence[Any], spec: InputSpec) -> None:
    """Remove what `observe` kept of a pass that is done."""
    _Checkpoint(model, pictures, spec).remove()


def _check_skipped(skipped: Sequence[str], total: int) -> None:
    if len(skipped) > _SKIPPED_SHARE * total:
        raise InputError(
            f"at least {len(skipped)} of {total} calibration pictures cannot be read, and at most "
            f"{_SKIPPED_SHARE:.0%} may be left out: {skipped[0]}"
        )


def _is_plain(image: np.ndarray) -> bool:
    """Whether all pixels are of one colour."""
    sparse = image[::16, ::16]
    return bool((sparse == image[0, 0]).all() and (image == image[0, 0]).all())


class _Head(TypedDict):
    done: Annotated[int, COUNT]
    skipped: list[str]
    plain: Annotated[int, COUNT]


class _Checkpoint:
    """The statistics of one pass so far, on disk; a cache, so its own errors are swallowed."""

    def __init__(self, model: onnx.ModelProto, pictures: Sequence[Any], spec: InputSpec) -> None:
        self._file: Path | None = None
        if (folder := kept_folder()) is not None:
            key = _key(model, pictures, spec)
            self._file = folder / "calibration" / f"{key}.statistics"
        self._written = time.monotonic()

    def read(self) -> tuple[int, Observed | None]:
        """Return how many pictures are done, and what was seen in them; (0, None) if none are."""
        with contextlib.suppress(OSError, MaskrtError):
            if self._file is not None:
                head, _, archive = self._file.read_bytes().partition(b"\n")
                known = parsed(head, _Head, self._file, "it is begun anew")
                statistics = read_statistics(archive)
                return known["done"], Observed(statistics, tuple(known["skipped"]), known["plain"])
        return 0, None

    def write_sometimes(
        self, done: int, collector: calib.Collector, skipped: tuple[str, ...], plain: int
    ) -> None:
        """Write, unless that was a few seconds ago."""
        if self._file is None or time.monotonic() - self._written < _EVERY_SECONDS:
            return
        head = json.dumps({"done": done, "skipped": skipped, "plain": plain}).encode()
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            staged = self._file.with_suffix(f".{os.getpid()}")
            staged.write_bytes(head + b"\n" + write_statistics(collector.statistics))
            staged.replace(self._file)
            _prune(self._file.parent)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Take the file away, if there is one."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    """Remove what nobody went on with for a week."""
    for file in folder.iterdir():
        if time.time() - file.stat().st_mtime > _ABANDONED_SECONDS:
            file.unlink(missing_ok=True)


def _key(model: onnx.ModelProto, pictures: Sequence[Any], spec: InputSpec) -> str:
    """Return a digest of all that statistics depend on."""
    version = require("onnxruntime", "collect calibration statistics").__version__
    shown = [_identity(picture) for picture in pictures]
    versions = [__version__, version, np.__version__]
    tensors = list(calib.place(model).tensors)
    facts = [fingerprint(model), tensors, spec.to_json(), versions, shown]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def _identity(picture: Any) -> list[Any]:
    if not isinstance(picture, str | Path):
        pixels = load_picture(picture)
        return [list(pixels.shape), hashlib.sha256(pixels.tobytes()).hexdigest()]
    file = Path(picture).absolute()
    try:
        found = file.stat()
    except OSError:
        return [str(file)]
    return [str(file), found.st_size, found.st_mtime_ns]
