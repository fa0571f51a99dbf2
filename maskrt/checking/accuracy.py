"""One check: an engine and its reference on annotated pictures, and what became of each instance.

The reference runs first, and leaves its instances compactly (`StoredResults`); then the engine
runs, and each of its pictures is compared with them at once. The reference is, in this order: the
PyTorch model, if weights are given; results stored in the bundle for these very pictures; the
canonical FP32 graph.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core import (
    Bundle,
    BundleError,
    Instances,
    Precision,
    Progress,
    StorageError,
    Target,
    silent,
)  # fmt: skip
from ..core.bundle import MODEL, REPORT
from ..runtime import Session, open_session, read_image
from ..runtime.check import (
    BUDGETED,
    Agreement,
    CocoDataset,
    CocoEvaluator,
    CocoImage,
    Recorder,
    Report,
    StoredResults,
    drop_interval,
    evaluate_stored,
    latency_percentiles,
    render_html,
    results_key,
)
from ..runtime.possible import check_can_exist
from ..runtime.session import which_engine
from .category_numbers import check_numbering
from .conversion import canonical_session, evaluate_session, pytorch_session

__all__ = ["Reference", "find_reference", "measure", "store_reference"]

STORED = "reference/results.npz"
_REPORT_PICTURES = 6


class Reference(NamedTuple):
    """A reference that has run.

    Attributes:
        name: such as `"PyTorch FP32"`.
        results: its instances.
        evaluator: holds its metrics.
    """

    name: str
    results: StoredResults
    evaluator: CocoEvaluator


class Measured(NamedTuple):
    """What a measurement gave, whether or not the bundle could take it in.

    Attributes:
        report: the numbers.
        page: the same as one HTML page.
        unsaved: why they are not in the bundle's `report/`, a sentence; empty if they are.
    """

    report: Report
    page: str
    unsaved: str = ""


def measure(
    bundle: Bundle,
    dataset: CocoDataset,
    *,
    target: Target | str | None = None,
    precision: Precision | str | None = None,
    max_ap_drop: float | None = None,
    weights: Path | str | None = None,
    explain: bool = False,
    dask: str | None = None,
    progress: Progress = silent,
) -> Measured:
    """Measure an engine against its reference, and write the report into the bundle.

    With `dask`, the address of a scheduler, its workers run both models.
    """
    check_can_exist(bundle, target, precision)
    check_numbering(bundle.manifest, dataset)
    opened = dict(bundle.digests)
    if dask is not None:
        ran = _run_on_cluster(bundle, dataset, target, precision, weights, dask, progress)
    else:
        ran = _run_here(bundle, dataset, target, precision, weights, progress)
    report = _report(bundle, ran, max_ap_drop)
    if explain:
        how = _explained(bundle, dataset, ran.target, ran.precision, weights, progress)
        report = replace(report, **how)
    page = render_html(report, ran.worst.pictures())
    engine = bundle.engine_folder(ran.target, ran.precision) + "/"
    try:
        with bundle.edit() as staged:
            _check_same_engine(staged, opened, engine)
            staged.write(REPORT, report.to_json())
            staged.write("report/report.html", page)
    except (BundleError, StorageError) as error:
        return Measured(report, page, str(error))
    return Measured(report, page)


def _check_same_engine(bundle: Bundle, opened: dict[str, str], engine: str) -> None:
    """Raise `BundleError` if another program built the engine anew since it was opened."""
    then, now = (
        {name: digest for name, digest in digests.items() if name.startswith(engine)}
        for digests in (opened, bundle.digests)
    )
    if then != now:
        raise BundleError(
            f"{engine.rstrip('/')} of the bundle was built anew while the one before was measured: "
            "check it again."
        )


@dataclass(frozen=True)
class _Ran:
    """An engine and its reference that have run."""

    target: Target
    precision: Precision
    about: dict[str, Any]
    images: int
    evaluator: CocoEvaluator
    latency_ms: dict[str, float]
    reference: Reference
    agreement: Agreement
    worst: "_Worst"


def _run_here(
    bundle: Bundle,
    dataset: CocoDataset,
    target: Target | str | None,
    precision: Precision | str | None,
    weights: Path | str | None,
    progress: Progress,
) -> _Ran:
    agreement, worst = Agreement(), _Worst()
    with open_session(bundle, target, precision) as session:
        reference = find_reference(bundle, dataset, weights, progress)

        def seen(entry: CocoImage, image: np.ndarray, found: Instances) -> None:
            expected = reference.results.of(entry.id, session.class_names)
            bad = agreement.add(expected, found).disagreement
            worst.add(entry, lambda: image, expected, found, bad)

        found = evaluate_session(session, dataset, "check", progress, seen=seen)
        place, asked, about = session.target, session.precision, session.describe()
    assert place is not None  # a session opened on a bundle has both
    assert asked is not None
    return _Ran(
        place, asked, about, found.images, found.evaluator, found.latency_ms, reference, agreement,
        worst,
    )  # fmt: skip


def _run_on_cluster(
    bundle: Bundle,
    dataset: CocoDataset,
    target: Target | str | None,
    precision: Precision | str | None,
    weights: Path | str | None,
    address: str,
    progress: Progress,
) -> _Ran:
    from ..cluster.check import Model, cluster, spread

    names, batch = bundle.manifest.class_names, bundle.manifest.input.batch
    dataset.check_labels(names)
    place, asked = which_engine(bundle, target, precision)
    with cluster(address) as client:
        reference = _stored_reference(bundle, dataset) if weights is None else None
        if reference is None:
            model = Model.of(bundle, weights=weights)
            found = spread(client, model, dataset, batch, "reference", progress)
            name = "canonical FP32" if weights is None else "PyTorch FP32"
            results = found.recorder.finish(name, results_key(dataset, bundle.digests[MODEL]))
            reference = Reference(name, results, evaluate_stored(results, dataset))
        model = Model.of(bundle, place, asked)
        found = spread(client, model, dataset, batch, "check", progress)
    results = found.recorder.finish("engine", "")
    agreement, worst = Agreement(), _Worst()
    for entry in dataset.images:
        pair = reference.results.of(entry.id, names), results.of(entry.id, names)
        worst.add(entry, partial(read_image, entry.path), *pair, agreement.add(*pair).disagreement)
    return _Ran(
        place, asked, found.about, len(dataset.images), evaluate_stored(results, dataset),
        latency_percentiles(found.latencies_ms), reference, agreement, worst,
    )  # fmt: skip


def _report(bundle: Bundle, ran: _Ran, max_ap_drop: float | None) -> Report:
    info = _engine_info(bundle, ran.target, ran.precision)
    return Report(
        target=ran.target.name,
        precision=ran.precision,
        images=ran.images,
        metrics=ran.evaluator.metrics(),
        latency_ms=ran.latency_ms,
        reference=ran.reference.evaluator.metrics(),
        reference_name=ran.reference.name,
        budget=max_ap_drop,
        note=info.get("note", ""),
        classes=ran.evaluator.class_metrics(),
        reference_classes=ran.reference.evaluator.class_metrics(),
        agreement=ran.agreement.summary(bundle.manifest.class_names),
        confidence=_confidence(ran),
        engine={**ran.about, **_size(info)},
    )


def find_reference(
    bundle: Bundle,
    dataset: CocoDataset,
    weights: Path | str | None = None,
    progress: Progress = silent,
) -> Reference:
    """Return the reference on a data set; it runs unless its results are in the bundle."""
    stored = _stored_reference(bundle, dataset) if weights is None else None
    if stored is not None:
        return stored
    key = results_key(dataset, bundle.digests[MODEL])
    name, session = _reference_session(bundle, weights)
    recorder = Recorder()
    with session:
        found = evaluate_session(
            session, dataset, "reference", progress,
            seen=lambda entry, _, instances: recorder.add(entry.id, instances),
        )  # fmt: skip
    return Reference(name, recorder.finish(name, key), found.evaluator)


def store_reference(
    bundle: Bundle,
    dataset: CocoDataset,
    *,
    weights: Path | str | None = None,
    progress: Progress = silent,
) -> Reference:
    """Run the reference, and write its results into the bundle for a device that cannot run it."""
    with bundle.edit() as staged:
        staged.remove(STORED)
        reference = find_reference(staged, dataset, weights, progress)
        staged.write(STORED, reference.results.to_bytes())
    return reference


def _reference_session(bundle: Bundle, weights: Path | str | None) -> tuple[str, Session]:
    """Return the reference's name and session: PyTorch if weights are given, else canonical."""
    if weights is None:
        return "canonical FP32", canonical_session(bundle)
    return "PyTorch FP32", pytorch_session(bundle, weights)


def _stored_reference(bundle: Bundle, dataset: CocoDataset) -> Reference | None:
    """Return the results in the bundle if they are of these pictures."""
    if STORED not in bundle:
        return None
    stored = StoredResults.from_bytes(bundle.read(STORED))
    if stored.key != results_key(dataset, bundle.digests[MODEL]):
        return None
    return Reference(f"{stored.name} (stored)", stored, evaluate_stored(stored, dataset))


def _confidence(ran: _Ran) -> dict[str, dict[str, Any]]:
    both = (ran.reference.evaluator, ran.evaluator)
    return {
        kind: drop_interval(both[0].tables(kind), both[1].tables(kind), ran.images)
        for kind in BUDGETED
        if all(kind in evaluator.kinds for evaluator in both)
    }


def _engine_info(bundle: Bundle, target: Target, precision: Precision) -> dict[str, Any]:
    return bundle.read_json(f"{bundle.engine_folder(target, precision)}/engine.json")


def _explained(
    bundle: Bundle,
    dataset: CocoDataset,
    target: Target,
    precision: Precision,
    weights: Path | str | None,
    progress: Progress,
) -> dict[str, Any]:
    from .explanation import explain

    return explain(bundle, dataset, target, precision, weights=weights, progress=progress)


def _size(info: dict[str, Any]) -> dict[str, Any]:
    return {name: info[name] for name in ("bytes", "layers") if name in info}


class _Worst:
    """The few pictures on which engine and reference disagree most, drawn."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, np.ndarray, np.ndarray]] = []

    def add(
        self,
        entry: CocoImage,
        image: Callable[[], np.ndarray],
        expected: Instances,
        found: Instances,
        disagreement: float,
    ) -> None:
        if len(self._heap) == _REPORT_PICTURES and disagreement <= self._heap[0][0]:
            return
        pixels = image()
        drawn = (expected.draw(pixels), found.draw(pixels))
        item = (disagreement, -entry.id, entry.path.name, *drawn)
        if len(self._heap) < _REPORT_PICTURES:
            heapq.heappush(self._heap, item)
        else:
            heapq.heapreplace(self._heap, item)

    def pictures(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Return (caption, reference, engine), the worst first."""
        ordered = sorted(self._heap, key=lambda item: (-item[0], -item[1]))
        return [(f"{name}, disagreement {bad:.2f}", a, b) for bad, _, name, a, b in ordered]
