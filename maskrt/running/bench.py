"""Latency of an engine by stage, its throughput, memory and power, and PyTorch beside it.

A call is timed from picture files to pasted masks:

| stage | |
|---|---|
| `decode` | files to pixels |
| `preprocess` | letterboxing; with `on_device` a part of `engine` |
| `engine` | the network, and all that a GPU does |
| `postprocess` | outputs to instances |
| `paste` | masks to the picture's size; unpacking them with `on_device` |
| `total` | all of it |

Speed depends on the pictures in two ways: decoding on their size, pasting on how many instances are
found. So `instances` is reported, and `images` are your own; without them pictures are drawn.
The figures are data of one shape, `bench.schema.json`.
"""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..checking.references import check_named, pytorch_session
from ..core import Bundle, Precision, Progress, Target, silent
from ..runtime import Session, open_session
from ..runtime.backends import gpu_of
from ..runtime.check import latency_percentiles
from ..runtime.cuda_memory_use import device_memory
from ..runtime.open import which_engine
from ..runtime.possible import check_can_exist
from ..runtime.power import Power, Rail, find_rails, metered
from ..runtime.trust import Trust
from .timed_calls import (
    STAGES,
    WARM_UP,
    Samples,
    calls_of,
    peak_bytes,
    pictures_for,
    streamed,
    timed_call,
)

__all__ = ["STAGES", "Bench", "bench", "bench_schema", "of_samples"]

FORMAT_VERSION = 1
_IDLE_SECONDS = 1.0
_REFERENCE_RUNS = 10


@dataclass(frozen=True)
class Bench:
    """What a bench found.

    Attributes:
        target: where it ran.
        precision: of the engine.
        batch: pictures a call.
        runs: timed calls.
        backend: what executed the engine, as `Session.describe` says.
        stages_ms: stage → percentiles in milliseconds a call; see the module's table. There is no
            `p90` of fewer than 10 calls, and no `p99` of fewer than 100.
        samples_ms: of `total`, one a call, in their order.
        pictures_per_second: at that batch, one call after another.
        stream_pictures_per_second: the same with `predict_stream`, which reads ahead.
        instances: found in a picture, on average.
        peak_bytes: resident memory of the process at its peak, before PyTorch was loaded.
        device_bytes: of the GPU's memory, taken by engine, buffers and kernels after the timed
            calls; None without a GPU. What other programs took meanwhile is counted, too.
        power: watts, idle watts and joules a picture on a Jetson, else None.
        pytorch: the same pictures through the PyTorch model, if its weights were given: its
            percentiles, the engine's in the same rounds, and the ratio of their medians.
    """

    target: str
    precision: str
    batch: int
    runs: int
    backend: dict[str, Any]
    stages_ms: dict[str, dict[str, float]]
    samples_ms: list[float]
    pictures_per_second: float
    stream_pictures_per_second: float
    instances: float
    peak_bytes: int
    device_bytes: int | None = None
    power: dict[str, Any] | None = None
    pytorch: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data of `bench.schema.json`."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}


def bench_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of `Bench.to_json`."""
    file = Path(__file__).with_name("bench.schema.json")
    return json.loads(file.read_text(encoding="utf-8"))


def bench(
    bundle: Bundle | Path | str,
    *,
    target: Target | str | None = None,
    precision: Precision | str | None = None,
    runs: int = 30,
    images: Path | str | None = None,
    weights: Path | str | None = None,
    model: str | None = None,
    on_device: bool = False,
    trust: Trust = False,
    progress: Progress = silent,
) -> Bench:
    """Time `runs` calls after three untimed ones.

    Args:
        bundle: holds the engine.
        target: None is the best that this machine can run.
        precision: None is the bundle's own.
        runs: how many calls.
        images: folder of pictures; None draws JPEG files as large as the input.
        weights: the PyTorch weights that the bundle was compiled from: time PyTorch, too.
        model: that model in your own words, if the bundle's are not to be followed; see `check`.
        on_device: letterbox and paste on the GPU, too.
        trust: True opens an engine for a GPU whoever built it, a path that of a bundle which this
            public key signed; see `maskrt.load`.
        progress: told after each call.

    Raises:
        UsageError: `on_device` for a target without a device.
        InputError: the pictures or the weights cannot be used.
        UntrustedError: the engine is machine code that was not built here.
    """
    opened = Bundle.open(bundle)
    check_can_exist(opened, target, precision)
    check_named(opened, weights, model)  # before minutes are spent on the engine
    spec = opened.manifest.input
    with pictures_for(images, spec) as files:
        calls = calls_of(files, spec.batch)
        place, wanted = which_engine(opened, target, precision)
        with (
            device_memory(gpu_of(opened, place, wanted)) as taken,
            open_session(opened, place, wanted, on_device=on_device, trust=trust) as session,
        ):
            found = replace(_bench(session, calls, runs, progress), device_bytes=taken())
            if weights is None:
                return found
            return _beside_pytorch(found, opened, session, calls, (weights, model), progress)


def _bench(session: Session, calls: list[list[Path]], runs: int, progress: Progress) -> Bench:
    rails, samples, batch = find_rails(), Samples(), session.spec.batch
    progress("bench", 0, runs)
    for number in range(WARM_UP):
        timed_call(session, calls[number % len(calls)], Samples())
    before = _at_rest(rails)
    with metered(rails) as busy:
        for number in range(runs):
            timed_call(session, calls[number % len(calls)], samples)
            progress("bench", number + 1, runs)
    idle = (before, _at_rest(rails))
    found = of_samples(session, samples, streamed(session, calls, runs))
    power = _power(idle, busy, batch * runs) if rails else None
    return replace(found, power=power)


def of_samples(session: Session, samples: Samples, stream: float) -> Bench:
    """Return the figures of a session's timed calls; `stream` is in pictures a second."""
    about, batch = session.describe(), session.spec.batch
    totals = samples.stages["total"]
    pictures = batch * len(totals)
    return Bench(
        target=about["target"],
        precision=about["precision"],
        batch=batch,
        runs=len(totals),
        backend=about,
        stages_ms={stage: latency_percentiles(v) for stage, v in samples.stages.items()},
        samples_ms=totals,
        pictures_per_second=pictures / (sum(totals) / 1e3),
        stream_pictures_per_second=stream,
        instances=samples.instances / pictures,
        peak_bytes=peak_bytes(),
    )


def _beside_pytorch(
    found: Bench,
    bundle: Bundle,
    session: Session,
    calls: list[list[Path]],
    original: tuple[Path | str, str | None],
    progress: Progress,
) -> Bench:
    """Time the engine and the PyTorch model in turn, so that a busy machine hurts both alike."""
    rounds = min(found.runs, _REFERENCE_RUNS)
    ours, theirs = Samples(), Samples()
    progress("bench PyTorch", 0, rounds)
    with pytorch_session(bundle, *original) as reference:
        timed_call(reference, calls[0], Samples())
        for number in range(rounds):
            timed_call(session, calls[number % len(calls)], ours)
            timed_call(reference, calls[number % len(calls)], theirs)
            progress("bench PyTorch", number + 1, rounds)
        about = reference.describe()
    totals = [latency_percentiles(samples.stages["total"]) for samples in (ours, theirs)]
    pytorch = {
        "runs": rounds,
        "backend": {**about, "target": None, "precision": "fp32"},
        "total_ms": totals[1],
        "engine_total_ms": totals[0],
        "speedup": totals[1]["p50"] / totals[0]["p50"],
        "instances": theirs.instances / (rounds * found.batch),
    }
    return replace(found, pytorch=pytorch)


def _at_rest(rails: list[Rail]) -> Power:
    """Return what the module draws while nothing runs."""
    with metered(rails) as power:
        time.sleep(_IDLE_SECONDS if rails else 0)
    return power


def _power(idle: tuple[Power, Power], busy: Power, pictures: int) -> dict[str, Any]:
    """Return the energy of a picture: mean power over the timed calls, times their seconds.

    `idle` is before and after, whose mean it is compared with: a warm module draws more.
    """
    resting = [power.watts for power in idle if power.watts is not None]
    watts, at_rest = busy.watts, sum(resting) / len(resting) if resting else None
    joules = None if watts is None else watts * busy.seconds / pictures
    above = None
    if watts is not None and at_rest is not None:
        above = (watts - at_rest) * busy.seconds / pictures
    return {
        "watts": watts,
        "idle_watts": at_rest,
        "rails_watts": busy.rails_watts,
        "joules_per_picture": joules,
        "joules_per_picture_above_idle": above,
    }
