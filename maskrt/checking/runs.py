"""An engine and its reference, run over annotated pictures.

The reference runs first, and leaves its instances compactly (`StoredResults`); then the engine
runs, and each of its pictures is compared with them at once. The reference is, in this order: the
PyTorch model, if weights are given; results stored in the bundle for these very pictures; the
canonical FP32 graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..core import Bundle, Instances, Precision, Progress, Target, silent
from ..core.bundle import MODEL
from ..runtime import Session, open_session
from ..runtime.check import (
    Agreement,
    CocoDataset,
    CocoEvaluator,
    CocoImage,
    Recorder,
    StoredResults,
    evaluate_stored,
    results_key,
)
from ..runtime.possible import check_can_exist
from ..runtime.trust import Trust
from .references import canonical_session, evaluate_session, pytorch_session
from .worst import Worst

__all__ = [
    "STORED",
    "Ran",
    "Reference",
    "Run",
    "RunRequest",
    "find_reference",
    "run_here",
    "stored_reference",
]

STORED = "reference/results.npz"


class Reference(NamedTuple):
    """A reference that has run.

    Attributes:
        name: such as `"PyTorch FP32"`.
        results: its instances.
        evaluator: holds its metrics.
        latency_ms: as of an engine; empty if it did not run here.
    """

    name: str
    results: StoredResults
    evaluator: CocoEvaluator
    latency_ms: Mapping[str, float] = {}


@dataclass(frozen=True)
class Ran:
    """An engine and its reference that have run."""

    target: Target
    precision: Precision
    about: dict[str, Any]
    images: int
    evaluator: CocoEvaluator
    latency_ms: dict[str, float]
    reference: Reference
    agreement: Agreement
    worst: Worst
    foretold: dict[str, Any] | None = None


@dataclass(frozen=True)
class RunRequest:
    """What is to be run: an engine and its reference over a data set.

    Attributes:
        bundle: has the engine.
        dataset: the annotated pictures.
        target: None is the best one here.
        precision: None is the bundle's own.
        weights: of the PyTorch model, which is the reference then; see the module's text.
        model: that model in the user's own words, if the bundle's are not to be followed.
        trust: whether an engine that is machine code is opened whoever built it; see `maskrt.load`.
    """

    bundle: Bundle
    dataset: CocoDataset
    target: Target | str | None = None
    precision: Precision | str | None = None
    weights: Path | str | None = None
    model: str | None = None
    trust: Trust = False


class Run(Protocol):
    """Runs an engine and its reference over a data set: here (`run_here`), or elsewhere."""

    def __call__(self, request: RunRequest, progress: Progress) -> Ran:
        """Return what both found."""
        ...


def run_here(request: RunRequest, progress: Progress) -> Ran:
    """Run an engine and its reference on this machine; a `Run`."""
    bundle, dataset = request.bundle, request.dataset
    check_can_exist(bundle, request.target, request.precision)
    agreement, worst = Agreement(), Worst(dataset)
    with open_session(bundle, request.target, request.precision, trust=request.trust) as session:
        reference = find_reference(bundle, dataset, request.weights, progress, model=request.model)

        def seen(entry: CocoImage, image: np.ndarray, found: Instances) -> None:
            expected = reference.results.of(entry.id, session.class_names)
            compared = agreement.add(expected, found)
            worst.add(entry, lambda: image, expected, found, compared)

        found = evaluate_session(session, dataset, "check", progress, seen=seen)
        place, asked, about = session.target, session.precision, session.describe()
    assert place is not None  # a session opened on a bundle has both
    assert asked is not None
    return Ran(
        place, asked, about, found.images, found.evaluator, found.latency_ms, reference, agreement,
        worst,
    )  # fmt: skip


def find_reference(
    bundle: Bundle,
    dataset: CocoDataset,
    weights: Path | str | None = None,
    progress: Progress = silent,
    *,
    model: str | None = None,
) -> Reference:
    """Return the reference on a data set; it runs unless its results are in the bundle."""
    stored = stored_reference(bundle, dataset) if weights is None else None
    if stored is not None:
        return stored
    key = results_key(dataset, bundle.digests[MODEL])
    name, session = _reference_session(bundle, weights, model)
    recorder = Recorder()
    with session:
        found = evaluate_session(
            session, dataset, "reference", progress,
            seen=lambda entry, _, instances: recorder.add(entry.id, instances),
        )  # fmt: skip
    return Reference(name, recorder.finish(name, key), found.evaluator, found.latency_ms)


def _reference_session(
    bundle: Bundle, weights: Path | str | None, model: str | None
) -> tuple[str, Session]:
    """Return the reference's name and session: PyTorch if weights are given, else canonical."""
    if weights is None:
        return "canonical FP32", canonical_session(bundle)
    return "PyTorch FP32", pytorch_session(bundle, weights, model)


def stored_reference(bundle: Bundle, dataset: CocoDataset) -> Reference | None:
    """Return the results in the bundle if they are of these pictures."""
    if STORED not in bundle:
        return None
    stored = StoredResults.from_bytes(bundle.read(STORED))
    if stored.key != results_key(dataset, bundle.digests[MODEL]):
        return None
    return Reference(f"{stored.name} (stored)", stored, evaluate_stored(stored, dataset))
