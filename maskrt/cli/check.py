"""`maskrt check`: COCO AP of an engine, and what it lost against FP32."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from ..core import command as as_command
from .json_output import json_file_option, put
from .option_words import as_options
from .options import (
    OUTPUT_FILE,
    bundle_argument,
    console,
    model_words_option,
    precision_option,
    progress_bars,
    trust_options,
)  # fmt: skip

if TYPE_CHECKING:
    from rich.console import Console

    from ..runtime.check import Report
    from ..runtime.trust import Trust

__all__ = ["command"]

_SHOWN = ("AP", "AP50", "AP75", "APS", "APM", "APL")


@click.command("check")
@bundle_argument
@click.option("--images", required=True, type=click.Path(path_type=Path), help="The pictures.")
@click.option(
    "--annotations", required=True, type=click.Path(path_type=Path), help="COCO instances JSON."
)
@click.option(
    "--categories", type=click.Path(path_type=Path),
    help="JSON that says which label each category is, where neither names nor numbers do.",
)  # fmt: skip
@click.option("--target", help="Default: the best that this machine can run.")
@click.option(
    "--as", "as_target", metavar="TARGET",
    help="Foretell another target: evaluate its engine's graph exactly, on this CPU.",
)  # fmt: skip
@precision_option
@click.option(
    "--max-ap-drop", type=click.FloatRange(min=0), metavar="X",
    help="Exit 1 if more box AP, or more mask AP, is lost.",
)  # fmt: skip
@click.option(
    "--max-ap75-drop", type=click.FloatRange(min=0), metavar="X", help="The same for AP75."
)
@click.option(
    "--max-class-drop", type=click.FloatRange(min=0), metavar="X",
    help="The same for the AP of each class.",
)  # fmt: skip
@click.option(
    "--weights", type=click.Path(path_type=Path),
    help="The PyTorch weights that BUNDLE was compiled from: compare with PyTorch itself.",
)  # fmt: skip
@model_words_option
@click.option(
    "--explain", is_flag=True,
    help="Find where the AP was lost, by stage and by layer: about ten more runs of the pictures.",
)  # fmt: skip
@click.option(
    "--dask", metavar="ADDRESS", help="Spread the pictures over the workers of a Dask scheduler."
)
@click.option(
    "--store-reference", is_flag=True,
    help="Only run the reference, and store its results in BUNDLE for a device that cannot.",
)  # fmt: skip
@trust_options
@json_file_option(OUTPUT_FILE, "report")
@click.option("--html", "html_file", type=OUTPUT_FILE, help="Write the page here.")
@click.option("--junit", "junit_file", type=OUTPUT_FILE, help="Write JUnit XML here, for CI.")
def command(
    bundle: Path,
    images: Path,
    annotations: Path,
    categories: Path | None,
    target: str | None,
    as_target: str | None,
    precision: str | None,
    max_ap_drop: float | None,
    max_ap75_drop: float | None,
    max_class_drop: float | None,
    weights: Path | None,
    model: str | None,
    explain: bool,
    dask: str | None,
    store_reference: bool,
    json_file: Path | None,
    html_file: Path | None,
    junit_file: Path | None,
    trust: "Trust",
) -> None:
    """Measure COCO AP of BUNDLE's engine and what it lost against the FP32 reference."""
    from ..checking.accuracy import report_folder
    from ..core.whole_file import write_text
    from ..measurement import measure
    from ..runtime.check import render_junit

    if store_reference:
        _store(bundle, images, annotations, categories, weights, model)
        return
    with progress_bars() as progress:
        report, page, unsaved = measure(
            bundle, images=images, annotations=annotations, categories=categories, target=target,
            as_target=as_target, precision=precision, max_ap_drop=max_ap_drop,
            max_ap75_drop=max_ap75_drop, max_class_drop=max_class_drop, weights=weights,
            model=model, explain=explain, dask=dask, trust=trust,
            command=as_command("maskrt", *click.get_current_context().obj), progress=progress,
        )  # fmt: skip
    put(report.to_json())
    _print(report)
    if unsaved:
        console().print(f"warning   the report is not in the bundle: {unsaved}", style="red")
    else:
        place = report_folder(report)
        console().print(f"report    in the bundle: {place}/report.html and report.json")
    if json_file is not None:
        report.save(json_file)
    if html_file is not None:
        write_text(html_file, page)
    if junit_file is not None:
        write_text(junit_file, render_junit(report))
    _judge(report)


def _judge(report: "Report") -> None:
    """Say what the budgets cover, what became of that, and what else was lost."""
    from ..runtime.check import enforce
    from ..runtime.check.losses import judged_sentence, other_sentence, passed_sentence

    screen = console()
    other = other_sentence(report)
    judged = judged_sentence(report)
    if judged:
        screen.print(f"judged    {judged}")
    if other:
        screen.print(f"besides   {other}")
    enforce(report)
    if judged:
        screen.print(f"passed: {passed_sentence(report)}", style="green")


def _store(
    bundle: Path,
    images: Path,
    annotations: Path,
    categories: Path | None,
    weights: Path | None,
    model: str | None,
) -> None:
    from ..checking.accuracy import store_reference

    with progress_bars() as progress:
        reference = store_reference(
            bundle, images=images, annotations=annotations, categories=categories, weights=weights,
            model=model, progress=progress,
        )  # fmt: skip
    metrics = reference.evaluator.metrics()
    put({"reference": reference.name, "metrics": metrics, "bundle": bundle})
    screen = console()
    for kind, values in metrics.items():
        screen.print(f"{kind:9} AP {_number(values['AP'])}")
    screen.print(f"stored    the results of {reference.name}: {bundle}/reference/results.npz")


def _print(report: "Report") -> None:
    against = f", against {report.reference_name}" if report.reference is not None else ""
    title = f"{report.images} pictures, {report.target}{against}"
    table = Table(header_style="bold", title=title)
    for heading in ("", "model", *_SHOWN):
        table.add_column(heading, justify="left" if heading in ("", "model") else "right")
    drop = report.drop or {}
    for kind, metrics in report.metrics.items():
        rows = {
            "reference": (report.reference or {}).get(kind),
            str(report.precision): metrics,
        }
        for name, values in rows.items():
            if values is not None:
                table.add_row(kind, name, *(_number(values[k]) for k in _SHOWN))
        if kind in drop:
            table.add_row(kind, "change", *(_change(drop[kind].get(k)) for k in _SHOWN))
    screen = console()
    screen.print(table)
    for sentence in report.noise_sentences():
        screen.print(f"sure?     {sentence}")
    if report.agreement is not None:
        _print_agreement(screen, report.agreement)
    if report.foretold is not None:
        _print_foretold(screen, report)
    if report.attribution is not None:
        _print_attribution(screen, report.attribution)
    if report.divergence is not None:
        _print_divergence(screen, report.divergence)
    other = report.reference_latency_ms.get("p50")
    beside = "" if other is None else f"; the reference's is {other:.1f} ms"
    screen.print(f"latency   {report.latency_ms['p50']:.1f} ms a picture (median){beside}")
    if report.note:
        from .compile import command as compile_command

        screen.print(f"note      {as_options(report.note, command, compile_command)}")
    if "mask" not in report.metrics:
        screen.print("note      no mask AP: the model or the annotations have no masks")


def _print_foretold(screen: "Console", report: "Report") -> None:
    foretold = report.foretold or {}
    if foretold["engine"] is None:
        screen.print(f"note      no engine for cpu at {report.precision}, to compare with")
        return
    found = foretold["agreement"]
    counts = ", ".join(
        f"{found[name]} {name.replace('_', ' ')}"
        for name in ("matched", "missed", "invented", "label_changed")
    )
    sure = found["confident"]
    box_ap = foretold["metrics"]["box"]["AP"]
    mask_ap = foretold["metrics"].get("mask", {}).get("AP")
    screen.print(
        f"engine    {foretold['engine']} against this: {counts}; with a score of 0.5 or more "
        f"{sure['missed']} missed and {sure['invented']} invented; its AP is {_number(box_ap)} "
        f"(box) and {_number(mask_ap)} (mask)"
    )


def _print_agreement(screen: "Console", agreement: dict[str, Any]) -> None:
    from ..runtime.check import few_instances
    from ..runtime.check.losses import instance_sentence

    changed = f"{agreement['label_changed']} label changed"
    counts = f"{agreement['matched']} matched, {changed}; {instance_sentence(agreement)}"
    compared = agreement["matched"] + agreement["label_changed"]
    screen.print(f"instances {compared} compared with the reference's: {counts}")
    few = few_instances(compared)
    if few is not None:
        screen.print(f"warning   {few}", style="yellow")
    for first, second in agreement["swapped_labels"]:
        screen.print(f"warning   the labels {first} and {second} are swapped", style="red")


def _print_attribution(screen: "Console", attribution: dict[str, Any]) -> None:
    from ..runtime.check.losses import in_words

    table = Table(header_style="bold", title=f"What AP lost since {attribution['start']}")
    for heading in ("stage", "", *attribution["whole"]):
        table.add_column(heading, justify="right" if heading in attribution["whole"] else "left")
    for part in attribution["parts"]:
        table.add_row(part["stage"], part["what"], *map(in_words, part["lost"].values()))
    table.add_row("whole", "", *map(in_words, attribution["whole"].values()))
    screen.print(table)
    for finding in attribution["findings"]:
        screen.print(f"finding   {finding['stage']}: {finding['sentence']}", style="red")
    suspect = attribution["suspect"] or "none: no stage lost anything to speak of"
    screen.print(f"suspect   {suspect}")


def _print_divergence(screen: "Console", divergence: dict[str, Any]) -> None:
    first = divergence["first"]
    limit = f"{divergence['tolerance_db']:g} dB"
    if first is not None:
        screen.print(f"layers    the first with less than {limit} of its own is {first}")
    else:
        screen.print(f"layers    each has {limit} SNR of its own or more")
    for name in divergence["wide"]:
        screen.print(f"layers    {name} uses little of its scale's range: calibrate again")


def _change(lost: float | None) -> str:
    from ..runtime.check.losses import in_words

    return "-" if lost is None else in_words(lost)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
