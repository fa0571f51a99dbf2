"""`maskrt report`: what the checks of several engines found, side by side."""

from pathlib import Path

import click
from rich.table import Table

from .json_output import json_file_option, put
from .options import OUTPUT_FILE, console

__all__ = ["command"]


@click.command("report")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--bench", "benches", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="Take latency from this file of maskrt bench --json; may be repeated.",
)  # fmt: skip
@json_file_option(OUTPUT_FILE, "figures")
@click.option("--html", "html_file", type=OUTPUT_FILE, help="Write one page here.")
def command(
    bundles: tuple[Path, ...],
    benches: tuple[Path, ...],
    json_file: Path | None,
    html_file: Path | None,
) -> None:
    """Lay the last checks of every engine of BUNDLES side by side; nothing is run.

    Give several bundles for copies of one that were checked on several devices.
    """
    import json

    from ..core.whole_file import write_text
    from ..runtime.check.page.comparison import COLUMNS, cells
    from ..side_by_side import report

    found = report(bundles, benches=benches, html=html_file)
    data = found.to_json()
    put(data)
    if json_file is not None:
        write_text(json_file, json.dumps(data, indent=2) + "\n")
    table = Table(header_style="bold")
    for heading in COLUMNS:
        table.add_column(heading, justify="left" if heading == COLUMNS[0] else "right")
    for row in data["engines"]:
        table.add_row(*cells(row))
    screen = console()
    screen.print(table)
    for note in found.notes:
        screen.print(f"note      {note}")
