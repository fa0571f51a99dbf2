"""`maskrt models`: what compiles by name, whose weights fit, and which ONNX files are read."""

from collections.abc import Iterable

import click
from rich.table import Table

from .json_output import json_option, put
from .options import console

__all__ = ["command"]


@click.command("models")
@json_option
def command() -> None:
    """List what MODEL may be, with the weights that fit."""
    from ..catalogue import models

    found, screen = models(), console()
    put(found)
    named = [(facts.model, facts.weights) for facts in found if facts.kind != "onnx"]
    screen.print(_table(("MODEL", "weights that fit"), named))
    screen.print(
        "NAME: any backbone of timm that has features_only. A model of your own, "
        "package.module:factory,\ncompiles if it is of one of these families."
    )
    files = [
        (facts.model.replace("`", ""), facts.weights.replace("`", "") or "-")
        for facts in found
        if facts.kind == "onnx"
    ]
    screen.print()
    screen.print(_table(("ONNX file of", ""), files))
    screen.print("Of one file, maskrt inspect FILE.onnx says what is recognised, and what is not.")


def _table(headings: tuple[str, str], rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
