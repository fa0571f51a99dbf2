"""`maskrt bench`: latency, throughput, memory and where the time goes."""

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from .options import bundle_argument, console, precision_option, progress_bars

__all__ = ["command"]


@click.command("bench")
@bundle_argument
@click.option("--target", help="Default: the best that this machine can run.")
@precision_option
@click.option("--runs", type=click.IntRange(min=1), default=30, show_default=True)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here."
)
def command(
    bundle: Path, target: str | None, precision: str | None, runs: int, json_file: Path | None
) -> None:
    """Measure an engine of BUNDLE on drawn pictures of the input's size."""
    from ..benching import bench

    with progress_bars() as progress:
        found = bench(bundle, target=target, precision=precision, runs=runs, progress=progress)
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
    table = Table(header_style="bold", title=f"{found.target} {found.precision}, {runs} runs")
    for heading in ("stage", "p50 ms", "p90 ms", "p99 ms"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage, values in found.stages_ms.items():
        table.add_row(stage, *(f"{values[k]:.2f}" for k in ("p50", "p90", "p99")))
    screen = console()
    screen.print(table)
    screen.print(f"throughput  {found.pictures_per_second:.1f} pictures/s at batch {found.batch}")
    screen.print(f"memory      {found.peak_bytes / 1e6:.0f} MB at the peak of this process")
