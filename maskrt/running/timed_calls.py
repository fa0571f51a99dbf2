"""Calls of a session that are timed by stage, and the pictures that they are made with."""

import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core import InputSpec, require
from ..runtime import Session, list_images

__all__ = [
    "STAGES", "WARM_UP", "Samples", "calls_of", "peak_bytes", "pictures_for", "streamed",
    "timed_call",
]  # fmt: skip

STAGES = ("decode", "preprocess", "engine", "postprocess", "paste", "total")
WARM_UP = 3
"""Calls before those that are timed."""
_OF_SESSION = {"read": "decode", "letterbox": "preprocess"}
_DRAWN = 8


@dataclass
class Samples:
    """Milliseconds of each timed call, by stage, and instances found."""

    stages: dict[str, list[float]] = field(default_factory=lambda: {s: [] for s in STAGES})
    instances: int = 0


def timed_call(session: Session, files: list[Path], into: Samples) -> None:
    """Predict and paste once, and note how long it took."""
    started = time.perf_counter()
    found = session.predict(files)
    predicted = time.perf_counter()
    for instances in found:
        _ = instances.masks
    ended = time.perf_counter()
    for stage, value in session.timings.items():
        into.stages[_OF_SESSION.get(stage, stage)].append(value)
    into.stages["paste"].append((ended - predicted) * 1e3)
    into.stages["total"].append((ended - started) * 1e3)
    into.instances += sum(map(len, found))


def streamed(session: Session, calls: list[list[Path]], runs: int) -> float:
    """Return the pictures a second of as many calls' pictures, read ahead of the engine."""
    files = [file for number in range(runs) for file in calls[number % len(calls)]]
    started = time.perf_counter()
    for frame in session.predict_stream(files):
        _ = frame.result().masks
    return len(files) / (time.perf_counter() - started)


def calls_of(files: Sequence[Path], batch: int) -> list[list[Path]]:
    """Return the pictures of each call; all calls have a full batch."""
    rounds = -(-len(files) // batch)
    repeated = [files[index % len(files)] for index in range(rounds * batch)]
    return [repeated[at : at + batch] for at in range(0, len(repeated), batch)]


@contextmanager
def pictures_for(images: Path | str | None, spec: InputSpec) -> Iterator[list[Path]]:
    """Yield the user's pictures, or JPEG files of smooth noise as large as the input."""
    if images is not None:
        yield list_images(Path(images))
        return
    pillow = require("PIL.Image", "draw pictures")
    generator = np.random.default_rng(0)
    coarse = (spec.height // 16 + 1, spec.width // 16 + 1, 3)
    with tempfile.TemporaryDirectory(prefix="maskrt-bench-") as folder:
        files = [Path(folder) / f"{index}.jpg" for index in range(_DRAWN)]
        for file in files:
            noise = pillow.fromarray(generator.integers(0, 256, coarse, np.uint8))
            noise.resize((spec.width, spec.height), pillow.Resampling.BICUBIC).save(file)
        yield files


def peak_bytes() -> int:
    """Return the resident memory of this process at its peak."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
