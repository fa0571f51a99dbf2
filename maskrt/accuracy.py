"""One check: an engine and its reference on annotated pictures, and what became of each instance.

The reference runs first, and leaves its instances compactly (`StoredResults`); then the engine
runs, and each of its pictures is compared with them at once. The reference is, in this order: the
PyTorch model, if weights are given; results stored in the bundle for these very pictures; the
canonical FP32 graph.
"""

import heapq
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .checking import canonical_session, evaluate_session, pytorch_session
from .core import Bundle, Instances, Precision, Progress, Target, silent
from .core.bundle import MODEL
from .runtime import Session, open_session
from .runtime.check import (
    Agreement,
    CocoDataset,
    CocoEvaluator,
    CocoImage,
    Evaluation,
    Recorder,
    Report,
    StoredResults,
    drop_interval,
    evaluate_stored,
    render_html,
    results_key,
)

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


def measure(
    bundle: Bundle,
    *,
    images: Path | str,
    annotations: Path | str,
    target: Target | str | None = None,
    precision: Precision | str | None = None,
    max_ap_drop: float | None = None,
    weights: Path | str | None = None,
    explain: bool = False,
    progress: Progress = silent,
) -> Report:
    """Measure an engine against its reference, and write the report into the bundle."""
    dataset = CocoDataset.load(images, annotations)
    with open_session(bundle, target, precision) as session:
        reference = find_reference(bundle, dataset, weights, progress)
        agreement, worst = Agreement(), _Worst()

        def seen(entry: CocoImage, image: np.ndarray, found: Instances) -> None:
            expected = reference.results.of(entry.id, session.class_names)
            worst.add(entry, image, expected, found, agreement.add(expected, found).disagreement)

        found = evaluate_session(session, dataset, "check", progress, seen=seen)
        place, asked, about = session.target, session.precision, session.describe()
    assert place is not None  # a session opened on a bundle has both
    assert asked is not None
    report = Report(
        target=place.name,
        precision=asked,
        images=found.images,
        metrics=found.metrics,
        latency_ms=found.latency_ms,
        reference=reference.evaluator.metrics(),
        reference_name=reference.name,
        budget=max_ap_drop,
        note=_engine_info(bundle, place, asked).get("note", ""),
        classes=found.evaluator.class_metrics(),
        reference_classes=reference.evaluator.class_metrics(),
        agreement=agreement.summary(bundle.manifest.class_names),
        confidence=_confidence(reference.evaluator, found),
        engine={**about, **_size(_engine_info(bundle, place, asked))},
        **(_explained(bundle, dataset, place, asked, weights, progress) if explain else {}),
    )
    with bundle.edit() as staged:
        staged.write("report/report.json", report.to_json())
        staged.write("report/report.html", render_html(report, worst.pictures()))
    return report


def find_reference(
    bundle: Bundle,
    dataset: CocoDataset,
    weights: Path | str | None = None,
    progress: Progress = silent,
) -> Reference:
    """Return the reference on a data set; it runs unless its results are in the bundle."""
    key = results_key(dataset, bundle.digests[MODEL])
    if weights is None and STORED in bundle:
        stored = StoredResults.from_bytes(bundle.read(STORED))
        if stored.key == key:
            return Reference(f"{stored.name} (stored)", stored, evaluate_stored(stored, dataset))
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
    *,
    images: Path | str,
    annotations: Path | str,
    weights: Path | str | None = None,
    progress: Progress = silent,
) -> Reference:
    """Run the reference, and write its results into the bundle for a device that cannot run it."""
    dataset = CocoDataset.load(images, annotations)
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


def _confidence(reference: CocoEvaluator, found: Evaluation) -> dict[str, dict[str, Any]]:
    return {
        kind: drop_interval(reference.tables(kind), found.evaluator.tables(kind), found.images)
        for kind in ("box", "mask")
        if kind in reference.kinds and kind in found.evaluator.kinds
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
    from .explaining import explain

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
        image: np.ndarray,
        expected: Instances,
        found: Instances,
        disagreement: float,
    ) -> None:
        if len(self._heap) == _REPORT_PICTURES and disagreement <= self._heap[0][0]:
            return
        drawn = (expected.draw(image), found.draw(image))
        item = (disagreement, -entry.id, entry.path.name, *drawn)
        if len(self._heap) < _REPORT_PICTURES:
            heapq.heappush(self._heap, item)
        else:
            heapq.heapreplace(self._heap, item)

    def pictures(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Return (caption, reference, engine), the worst first."""
        ordered = sorted(self._heap, key=lambda item: (-item[0], -item[1]))
        return [(f"{name}, disagreement {bad:.2f}", a, b) for bad, _, name, a, b in ordered]
