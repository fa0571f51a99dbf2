"""Latency of an engine by stage, its throughput, and the process's peak memory."""

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .core import Bundle, Precision, Progress, Target, silent
from .runtime import STAGES, open_session
from .runtime.check import latency_percentiles

__all__ = ["Bench", "bench"]


@dataclass(frozen=True)
class Bench:
    """What a bench found.

    Attributes:
        target: where it ran.
        precision: of the engine.
        batch: pictures a call.
        stages_ms: stage → percentiles in milliseconds a call; `paste` is the masks', and `total`
            goes from pixels to pasted masks.
        pictures_per_second: at that batch, one call after another.
        peak_bytes: resident memory of the process at its peak.
    """

    target: str
    precision: str
    batch: int
    stages_ms: dict[str, dict[str, float]]
    pictures_per_second: float
    peak_bytes: int


def bench(
    bundle: Bundle | Path | str,
    *,
    target: Target | str | None = None,
    precision: Precision | str | None = None,
    runs: int = 30,
    progress: Progress = silent,
) -> Bench:
    """Time `runs` calls after three untimed ones, on drawn pictures as large as the input."""
    samples: dict[str, list[float]] = {stage: [] for stage in (*STAGES, "paste", "total")}
    with open_session(bundle, target, precision) as session:
        spec = session.spec
        generator = np.random.default_rng(0)
        pictures = list(generator.integers(0, 256, spec.shape, np.uint8))
        for number in range(-3, runs):
            started = time.perf_counter()
            found = session.predict(pictures)
            predicted = time.perf_counter()
            for instances in found:
                _ = instances.masks
            ended = time.perf_counter()
            if number < 0:
                continue
            for stage, value in session.timings.items():
                samples[stage].append(value)
            samples["paste"].append((ended - predicted) * 1e3)
            samples["total"].append((ended - started) * 1e3)
            progress("bench", number + 1, runs)
        about = session.describe()
    return Bench(
        target=about["target"],
        precision=about["precision"],
        batch=spec.batch,
        stages_ms={stage: latency_percentiles(values) for stage, values in samples.items()},
        pictures_per_second=spec.batch * runs / (sum(samples["total"]) / 1e3),
        peak_bytes=_peak_bytes(),
    )


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
