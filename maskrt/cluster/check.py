"""Spreading a check over a Dask cluster: workers predict, and all numbers are made in one place.

A task is a few dozen pictures and one model. It returns the instances compactly (`Recorder`) and
the latencies. Shards are whole batches, so each picture is run beside the same others as on one
machine, and what follows from the instances is the same to the last digit. A task depends on files
alone, so Dask runs it again elsewhere if its worker dies.

Bundle, pictures and weights are named by path: every worker must see the same files.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..checking.references import canonical_session, pytorch_session
from ..checking.runs import Ran, Reference, RunRequest, stored_reference
from ..checking.worst import Worst
from ..core import Bundle, InputError, Precision, Progress, Target, require
from ..core.bundle import MODEL
from ..runtime import Session, open_session, read_image
from ..runtime.check import (
    Agreement,
    CocoDataset,
    CocoImage,
    Recorder,
    evaluate_stored,
    latency_percentiles,
    results_key,
)
from ..runtime.check.evaluate import predict_timed, read_picture
from ..runtime.open import which_engine
from ..runtime.possible import check_can_exist
from ..runtime.trust import PLAN, check_trusted

__all__ = ["Model", "Prediction", "cluster", "run_on_cluster", "shards_of", "spread"]

_SHARD = 32  # pictures, about; a task is then seconds long, and a lost one is soon made up for
_LOCK = threading.Lock()  # a session is not for several threads at once
_OPEN_AT_MOST = 2  # an engine and its reference


class Model(NamedTuple):
    """What a worker opens.

    Attributes:
        bundle: folder of the bundle.
        target: of the engine; None for a reference.
        precision: of the engine; None likewise.
        weights: of the PyTorch reference; None is the canonical graph.
        content: what the files held, so that a worker does not go on with those that it opened
            before they were replaced.
        words: of the PyTorch reference, the user's own; None follows the bundle's.
        vouched: SHA-256 of `engine.json` and of the engine, for whose origin the client has asked
            its own record, keys and user (`runtime/trust/`); a worker takes its word, as it does
            for the code that it runs.
    """

    bundle: str
    target: str | None = None
    precision: str | None = None
    weights: str | None = None
    content: str = ""
    words: str | None = None
    vouched: tuple[str | None, ...] = ()

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        target: Target | None = None,
        precision: Precision | None = None,
        weights: Path | str | None = None,
        words: str | None = None,
    ) -> "Model":
        """Name a model by the files that hold it, as they are now."""
        digest = hashlib.sha256(json.dumps(bundle.digests, sort_keys=True).encode())
        if weights is not None and Path(weights).is_file():  # if not, the worker says so
            digest.update(Path(weights).read_bytes())
        return cls(
            str(bundle.path.resolve()),
            None if target is None else target.name,
            None if precision is None else str(precision),
            None if weights is None else str(Path(weights).resolve()),
            digest.hexdigest(),
            words,
            () if target is None else _code_of(bundle, target, precision),
        )


class Prediction(NamedTuple):
    """What the workers found: instances, milliseconds a picture, and what ran it."""

    recorder: Recorder
    latencies_ms: list[float]
    about: dict[str, Any]


_sessions: dict[Model, Session] = {}  # of this process, a worker's


@contextlib.contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Connect to the Dask scheduler at `address`, such as `tcp://10.0.0.1:8786`."""
    distributed = require("distributed", "spread work over a Dask cluster")
    try:
        client = distributed.Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at {address} ({error}): start one with dask scheduler, and "
            "name its address."
        ) from error
    with client:
        yield client


def shards_of(items: Sequence[Any], batch: int) -> list[Any]:
    """Cut pictures into shards of whole batches."""
    size = batch * max(1, _SHARD // batch)
    return [items[start : start + size] for start in range(0, len(items), size)]


def run_on_cluster(request: RunRequest, progress: Progress, *, address: str) -> Ran:
    """Run both models on the workers of the scheduler at `address`; a `checking.runs.Run`."""
    bundle, dataset, weights = request.bundle, request.dataset, request.weights
    check_can_exist(bundle, request.target, request.precision)
    names, batch = bundle.manifest.class_names, bundle.manifest.input.batch
    dataset.check_labels(names)
    place, asked = which_engine(bundle, request.target, request.precision)
    check_trusted(bundle, place, asked, request.trust)
    with cluster(address) as client:
        reference = stored_reference(bundle, dataset) if weights is None else None
        if reference is None:
            model = Model.of(bundle, weights=weights, words=request.model)
            found = spread(client, model, dataset, batch, "reference", progress)
            name = "canonical FP32" if weights is None else "PyTorch FP32"
            results = found.recorder.finish(name, results_key(dataset, bundle.digests[MODEL]))
            reference = Reference(name, results, evaluate_stored(results, dataset))
        model = Model.of(bundle, place, asked)
        found = spread(client, model, dataset, batch, "check", progress)
    results = found.recorder.finish("engine", "")
    agreement, worst = Agreement(), Worst(dataset)
    for entry in dataset.images:
        pair = reference.results.of(entry.id, names), results.of(entry.id, names)
        worst.add(entry, partial(read_image, entry.path), *pair, agreement.add(*pair))
    return Ran(
        place, asked, found.about, len(dataset.images), evaluate_stored(results, dataset),
        latency_percentiles(found.latencies_ms), reference, agreement, worst,
    )  # fmt: skip


def spread(
    client: Any, model: Model, dataset: CocoDataset, batch: int, stage: str, progress: Progress
) -> Prediction:
    """Run a model over a data set on all workers."""
    distributed = require("distributed", "spread work over a Dask cluster")
    images = dataset.images
    shards = shards_of(images, batch)
    source = str(dataset.source)
    tasks = [client.submit(_predict, model, source, shard, pure=False) for shard in shards]
    total, latencies = Recorder(), []
    about: dict[str, Any] = {}
    progress(stage, 0, len(images))
    done = 0
    for task in distributed.as_completed(tasks):
        found: Prediction = task.result()
        total.merge(found.recorder)
        latencies += found.latencies_ms
        about = found.about
        done += len(found.recorder)
        progress(stage, done, len(images))
    return Prediction(total, latencies, about)


def _code_of(bundle: Bundle, target: Target, precision: Precision | None) -> tuple[str | None, ...]:
    folder = bundle.engine_folder(target, precision)
    return tuple(bundle.digests.get(f"{folder}/{name}") for name in ("engine.json", PLAN))


def _predict(model: Model, source: str, images: tuple[CocoImage, ...]) -> Prediction:
    """Run one shard, on a worker."""
    recorder, latencies = Recorder(), []
    with _LOCK:
        session = _opened(model)
        batch = session.spec.batch
        for start in range(0, len(images), batch):
            group = images[start : start + batch]
            pictures = [read_picture(entry, source) for entry in group]
            found, elapsed_ms = predict_timed(session.predict, pictures)
            latencies += [elapsed_ms / len(group)]
            for entry, instances in zip(group, found, strict=True):
                recorder.add(entry.id, instances)
        return Prediction(recorder, latencies, session.describe())


def _opened(model: Model) -> Session:
    """Return a model's session, which stays open until others are in use; only under the lock."""
    if model not in _sessions:
        while len(_sessions) >= _OPEN_AT_MOST:
            _sessions.pop(next(iter(_sessions))).close()
        _sessions[model] = _open(model)
    return _sessions[model]


def _open(model: Model) -> Session:
    bundle = Bundle.open(model.bundle)
    if model.target is not None and model.precision is not None:
        target, precision = Target.parse(model.target), Precision.parse(model.precision)
        trust = model.vouched == _code_of(bundle, target, precision)
        return open_session(bundle, target, precision, trust=trust)
    if model.weights is not None:
        return pytorch_session(bundle, model.weights, model.words)
    return canonical_session(bundle)
