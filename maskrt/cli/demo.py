"""`maskrt demo`: the whole job once, on what ships with maskrt."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from ..core import command as as_command
from .json_output import json_option, put
from .options import console, progress_bars
from .summary import engine_layers, megabytes

if TYPE_CHECKING:
    from ..demo.run import Row

__all__ = ["command"]

_QUICK, _FULL = 16, 200


@click.command("demo")
@json_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("build/demo.maskrt"),
    show_default=True, help="The bundle.",
)  # fmt: skip
@click.option("--pictures", type=click.IntRange(min=1), help=f"Held-out scenes; default {_FULL}.")
@click.option("--quick", is_flag=True, help=f"Measure on {_QUICK} scenes only.")
def command(output: Path, pictures: int | None, quick: bool) -> None:
    """Compile the demo Mask R-CNN, run it on held-out scenes, print what precision costs."""
    from ..demo.run import run_demo

    count = pictures or (_QUICK if quick else _FULL)
    with progress_bars() as progress:
        bundle, rows, drawn = run_demo(output, pictures=count, progress=progress)
    scenes = bundle.path.parent / "demo-scenes"
    put({"bundle": bundle, "rows": rows, "drawn": drawn, "scenes": scenes})
    screen = console()
    screen.print(_table(rows, count))
    screen.print(
        "AP is COCO's, against the annotations; latency is the median from pixels to pasted masks. "
        "rtx engines are built here ahead of time and need a GPU to run."
    )
    for row in rows:
        if row.note:
            screen.print(f"{row.name}: {row.note}")
    screen.print(f"bundle    {bundle.path}")
    screen.print(f"pictures  {drawn[0].parent} ({len(drawn)} scenes, drawn by the INT8 engine)")
    check = as_command(
        "maskrt", "check", output, "--images", scenes / "images",
        "--annotations", scenes / "annotations.json",
    )  # fmt: skip
    screen.print(f"scenes    {scenes}, to go on with: {check}")


def _table(rows: "list[Row]", count: int) -> Table:
    table = Table(header_style="bold", title=f"{count} held-out scenes")
    for heading in ("model", "box AP", "mask AP", "latency", "size", "engine", "layers really in"):
        left = heading in ("model", "engine", "layers really in")
        table.add_column(heading, justify="left" if left else "right")
    for row in rows:
        built = "-" if row.build_seconds is None else f"built in {row.build_seconds:.1f} s"
        table.add_row(
            row.name, _ap(row, "box"), _ap(row, "mask"), _latency(row), megabytes(row.bytes),
            built, "fp32" if row.build_seconds is None else engine_layers(row.layers),
        )  # fmt: skip
    return table


def _ap(row: "Row", kind: str) -> str:
    return "needs GPU" if row.metrics is None else f"{row.metrics[kind]['AP']:.2f}"


def _latency(row: "Row") -> str:
    return "-" if row.latency_ms is None else f"{row.latency_ms:.1f} ms"
