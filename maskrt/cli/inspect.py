"""`maskrt inspect`: what a bundle holds, down to the layers' precisions and their reasons.

Of an ONNX file, what surgery recognises in it and where it stops: see `inspect_onnx.py`.
"""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from ..core import counted
from .inspect_onnx import print_onnx
from .json_output import json_option, put
from .options import bundle_argument, console, progress_bars
from .summary import inspected, print_inspection

if TYPE_CHECKING:
    from ..export.surgery import Examination
    from ..inspection import GraphFacts, RecipeFacts

__all__ = ["command"]


@click.command("inspect")
@bundle_argument
@json_option
def command(bundle: Path) -> None:
    """Show what BUNDLE holds: graph, operators, recipe and engines.

    BUNDLE may also be an ONNX file that another exporter wrote: shows what surgery recognises.
    """
    from ..inspection import Inspection, inspect

    with progress_bars():
        found = inspect(bundle)
    put(inspected(found) if isinstance(found, Inspection) else _examined(found))
    if not isinstance(found, Inspection):
        print_onnx(bundle, found)
        return
    print_inspection(found)
    if found.graph is not None:
        _print_graph(found.bundle.manifest.outputs, found.graph)
    if found.recipe is not None:
        _print_recipe(found.recipe)


def _examined(found: "Examination") -> dict[str, Any]:
    """Return what surgery says of a file, without the tensors of its stages."""
    told = {field.name: getattr(found, field.name) for field in fields(found)}
    return told | {"stages": found.stages is not None}


def _print_graph(outputs: dict[str, tuple[int, ...]], graph: "GraphFacts") -> None:
    screen = console()
    screen.print("\ngraph", style="bold")
    for name, shape in outputs.items():
        screen.print(f"  output {name:8} {list(shape)}")
    listed = ", ".join(f"{count} {kind}" for kind, count in graph.operators.items())
    screen.print(f"  {counted(graph.nodes, 'node')}: {listed}")


def _print_recipe(recipe: "RecipeFacts") -> None:
    """Print how many layers have which precision, and each that was kept back with its reason."""
    screen = console()
    screen.print("\nrecipe", style="bold")
    listed = ", ".join(f"{counted(count, 'layer')} {name}" for name, count in recipe.layers.items())
    scales = counted(recipe.scales, "scale")
    screen.print(f"  asked for {recipe.precision}: {listed}; {scales}")
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("kept back", "precision", "reason"):
        table.add_column(heading)
    for kept in recipe.kept_back:
        table.add_row(kept.layer, kept.precision.value, kept.reason)
    if recipe.kept_back:
        screen.print(table)
