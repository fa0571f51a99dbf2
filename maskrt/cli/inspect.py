"""`maskrt inspect`: what a bundle holds, down to the layers' precisions and their reasons.

Of an ONNX file, what surgery recognises in it and where it stops: see `inspect_onnx.py`.
"""

from collections import Counter
from pathlib import Path

import click
from rich.table import Table

from ..core import Bundle, BundleError, counted
from ..core.operator_names import operator_of
from .inspect_onnx import print_onnx
from .options import bundle_argument, console
from .summary import print_bundle

__all__ = ["command"]


@click.command("inspect")
@bundle_argument
def command(bundle: Path) -> None:
    """Show what BUNDLE holds: graph, operators, recipe and engines.

    BUNDLE may also be an ONNX file that another exporter wrote: shows what surgery recognises.
    """
    if bundle.suffix == ".onnx" and not bundle.is_dir():
        print_onnx(bundle)
        return
    if bundle.is_file():
        raise BundleError(
            f"{bundle} is neither a bundle nor an .onnx file: name the folder that maskrt compile "
            "wrote, or another exporter's ONNX file."
        )
    from ..calib import Recipe
    from ..calib.bundled import read_model
    from ..core.bundle import RECIPE

    opened = Bundle.open(bundle)
    print_bundle(opened)
    screen = console()
    model = read_model(opened)
    screen.print("\ngraph", style="bold")
    for name, shape in opened.manifest.outputs.items():
        screen.print(f"  output {name:8} {list(shape)}")
    kinds = Counter(
        f"{n.domain}::{operator_of(n.op_type)}" if n.domain else n.op_type for n in model.graph.node
    )
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    screen.print(f"  {counted(len(model.graph.node), 'node')}: {listed}")
    if RECIPE in opened:
        _print_recipe(Recipe.from_json(opened.read_json(RECIPE)).to_json())


def _print_recipe(recipe: dict) -> None:
    """Print how many layers have which precision, and each that was kept back with its reason."""
    screen = console()
    layers = recipe["layers"]
    counts = Counter(layer["precision"] for layer in layers.values())
    screen.print("\nrecipe", style="bold")
    listed = ", ".join(f"{counted(count, 'layer')} {name}" for name, count in counts.items())
    scales = counted(len(recipe["tensors"]), "scale")
    screen.print(f"  asked for {recipe['precision']}: {listed}; {scales}")
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("kept back", "precision", "reason"):
        table.add_column(heading)
    wanted = "int8" if recipe["precision"] == "mixed" else recipe["precision"]
    kept = [(n, c) for n, c in layers.items() if c["precision"] != wanted]
    for name, choice in kept:
        table.add_row(name, choice["precision"], choice["reason"])
    if kept:
        screen.print(table)
