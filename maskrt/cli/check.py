"""`maskrt check`: COCO AP of an engine, and its drop against FP32."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from .options import bundle_argument, console, precision_option, progress_bars

if TYPE_CHECKING:
    from ..runtime.check import Report

__all__ = ["command"]


@click.command("check")
@bundle_argument
@click.option("--images", required=True, type=click.Path(path_type=Path), help="The pictures.")
@click.option(
    "--annotations", required=True, type=click.Path(path_type=Path), help="COCO instances JSON."
)
@click.option("--target", help="Default: the best that this machine can run.")
@precision_option
@click.option(
    "--max-ap-drop", type=click.FloatRange(min=0), metavar="X", help="Exit 1 if more AP is lost."
)
@click.option(
    "--weights", type=click.Path(path_type=Path),
    help="The PyTorch weights that BUNDLE was compiled from: compare with PyTorch itself.",
)  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the report here.")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Write the page here.")
def command(
    bundle: Path,
    images: Path,
    annotations: Path,
    target: str | None,
    precision: str | None,
    max_ap_drop: float | None,
    weights: Path | None,
    json_file: Path | None,
    html_file: Path | None,
) -> None:
    """Measure COCO AP of BUNDLE's engine and what it lost against the FP32 reference."""
    from ..pipeline import check
    from ..runtime.check import enforce

    with progress_bars() as progress:
        report = check(
            bundle, images=images, annotations=annotations, target=target, precision=precision,
            max_ap_drop=max_ap_drop, weights=weights, progress=progress,
        )  # fmt: skip
    _print(report)
    if json_file is not None:
        report.save(json_file)
    if html_file is not None:
        html_file.parent.mkdir(parents=True, exist_ok=True)
        html_file.write_bytes((bundle / "report" / "report.html").read_bytes())
    if max_ap_drop is not None:
        enforce(report, max_ap_drop)
        console().print(f"passed: no AP drops by more than {max_ap_drop:g}.", style="green")


def _print(report: "Report") -> None:
    table = Table(header_style="bold", title=f"{report.images} pictures, {report.target}")
    for heading in ("", "model", "AP", "AP50", "AP75", "APS", "APM", "APL"):
        table.add_column(heading, justify="left" if heading in ("", "model") else "right")
    drop = report.drop or {}
    for kind, metrics in report.metrics.items():
        rows = {
            str(report.reference_name): (report.reference or {}).get(kind),
            str(report.precision): metrics,
            "drop": drop.get(kind),
        }
        for name, values in rows.items():
            if values is not None:
                cells = [_number(values[k]) for k in ("AP", "AP50", "AP75", "APS", "APM", "APL")]
                table.add_row(kind, name, *cells)
    screen = console()
    screen.print(table)
    screen.print(f"latency   {report.latency_ms['p50']:.1f} ms a picture (median)")
    if report.note:
        screen.print(f"note      {report.note}")
    if "mask" not in report.metrics:
        screen.print("note      no mask AP: the model or the annotations have no masks")
    screen.print("report    in the bundle: report/report.html and report/report.json")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
