"""One check: an engine against its reference on annotated pictures, as a report in the bundle."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..core import Bundle, BundleError, Precision, Progress, StorageError, Target, silent
from ..runtime.check import BUDGETED, CocoDataset, Report, drop_interval, render_html
from ..runtime.check.confusion import CONFIDENT
from ..runtime.trust import Trust
from .category_numbers import doubt, numbered
from .provenance import provenance
from .references import check_named
from .runs import STORED, Ran, Reference, Run, RunRequest, find_reference, run_here

__all__ = ["Budgets", "Measured", "measure", "report_folder", "store_reference"]


class Budgets(NamedTuple):
    """How much may be lost against the reference, points of 0 to 100; None judges nothing.

    Attributes:
        ap: of box AP, and of mask AP.
        ap75: of box AP75, and of mask AP75.
        by_class: of each class's box AP, and of its mask AP.
    """

    ap: float | None = None
    ap75: float | None = None
    by_class: float | None = None


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
    max_ap75_drop: float | None = None,
    max_class_drop: float | None = None,
    weights: Path | str | None = None,
    model: str | None = None,
    explain: bool = False,
    trust: Trust = False,
    run: Run = run_here,
    command: str = "",
    progress: Progress = silent,
) -> Measured:
    """Measure an engine against its reference, and write the report into the bundle.

    It is written to `report/<target>@<precision>/`, where the report of no other engine is, and
    again to `report/`, which has the newest of all.

    `run` runs both models; `command` is what the user said. The other arguments are those of
    `maskrt.check`.
    """
    check_named(bundle, weights, model)
    given, dataset = dataset, numbered(bundle.manifest, dataset)
    opened = dict(bundle.digests)
    infos = _engine_infos(bundle)  # now: another program may remove the engine while it is measured
    ran = run(RunRequest(bundle, dataset, target, precision, weights, model, trust), progress)
    budgets = Budgets(max_ap_drop, max_ap75_drop, max_class_drop)
    report = _report(bundle, ran, budgets, infos, given, command)
    said = (report.note, dataset.numbering, doubt(bundle.manifest, dataset, report.reference or {}))
    report = replace(report, note=" ".join(filter(None, said)))
    if explain:
        from .explanation import explain as explained

        how = explained(
            bundle, dataset, ran.target, ran.precision, weights=weights, words=model,
            trust=trust, progress=progress,
        )  # fmt: skip
        report = replace(report, **how)
    page = render_html(report, ran.worst.triples())
    engine = bundle.engine_folder(ran.target, ran.precision) + "/"
    try:
        with bundle.edit() as staged:
            _check_same_engine(staged, opened, engine)
            for folder in (report_folder(report), "report"):
                staged.write(f"{folder}/report.json", report.to_json())
                staged.write(f"{folder}/report.html", page)
    except (BundleError, StorageError) as error:
        return Measured(report, page, str(error))
    return Measured(report, page)


def report_folder(report: Report) -> str:
    """Return where in a bundle the reports of this engine are, such as `report/cpu@int8`."""
    foretold = "" if report.foretold is None else "-foretold"
    return f"report/{report.target}@{report.precision}{foretold}"


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


def _report(
    bundle: Bundle,
    ran: Ran,
    budgets: Budgets,
    infos: dict[str, dict[str, Any]],
    dataset: CocoDataset,
    command: str,
) -> Report:
    no_engine_ran = ran.foretold is not None
    info = {} if no_engine_ran else infos[bundle.engine_folder(ran.target, ran.precision)]
    return Report(
        target=ran.target.name,
        precision=ran.precision,
        images=ran.images,
        metrics=ran.evaluator.metrics(),
        latency_ms=ran.latency_ms,
        reference=ran.reference.evaluator.metrics(),
        reference_name=ran.reference.name,
        budget=budgets.ap,
        ap75_budget=budgets.ap75,
        class_budget=budgets.by_class,
        note=info.get("note", "") if ran.foretold is None else _foretold_note(ran),
        classes=ran.evaluator.class_metrics(),
        reference_classes=ran.reference.evaluator.class_metrics(),
        agreement=ran.agreement.summary(bundle.manifest.class_names),
        confidence=_confidence(ran),
        engine={**ran.about, **_size(info)},
        foretold=ran.foretold,
        curves=ran.evaluator.curves(),
        reference_curves=ran.reference.evaluator.curves(),
        confusion=ran.evaluator.confusion(),
        reference_confusion=ran.reference.evaluator.confusion(),
        reference_latency_ms=dict(ran.reference.latency_ms),
        labels={name: label for label, name in ran.evaluator.dataset.categories.items()},
        provenance=provenance(
            bundle, dataset, ran.target, ran.precision, about=ran.about, info=info,
            thresholds={
                "max_ap_drop": budgets.ap, "max_ap75_drop": budgets.ap75,
                "max_class_drop": budgets.by_class, "confident_score": CONFIDENT,
            },
            command=command,
        ),
    )  # fmt: skip


def store_reference(
    bundle: Bundle | Path | str,
    *,
    images: Path | str,
    annotations: Path | str,
    categories: Path | str | None = None,
    weights: Path | str | None = None,
    model: str | None = None,
    progress: Progress = silent,
) -> Reference:
    """Run the reference and store its results in the bundle, for a device that cannot run it.

    The arguments are those of `maskrt.check`, which on the device compares with these results.

    Returns:
        The results and their evaluator, whose `metrics()` are the reference's AP.
    """
    opened = Bundle.open(bundle)
    check_named(opened, weights, model)
    dataset = numbered(opened.manifest, CocoDataset.load(images, annotations, categories))
    with opened.edit() as staged:
        staged.remove(STORED)
        reference = find_reference(staged, dataset, weights, progress, model=model)
        staged.write(STORED, reference.results.to_bytes())
    return reference


def _confidence(ran: Ran) -> dict[str, dict[str, Any]]:
    both = (ran.reference.evaluator, ran.evaluator)
    return {
        kind: drop_interval(both[0].tables(kind), both[1].tables(kind), ran.images)
        for kind in BUDGETED
        if all(kind in evaluator.kinds for evaluator in both)
        and both[0].tables(kind).categories()  # where all annotations are crowds there is no AP
    }


def _engine_infos(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Return what every `engine.json` of the bundle says, by the engine's folder."""
    folders = [f"engines/{name}" for name in bundle.engines()]
    return {folder: bundle.read_json(f"{folder}/engine.json") for folder in folders}


def _foretold_note(ran: Ran) -> str:
    return (
        f"Foretold: the graph of an engine for {ran.target.name}, evaluated exactly on this CPU; "
        "no engine ran, and the latency is not that target's."
    )


def _size(info: dict[str, Any]) -> dict[str, Any]:
    return {name: info[name] for name in ("bytes", "layers", "kernels") if name in info}
