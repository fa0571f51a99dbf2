"""`maskrt recipe`: the precision of each layer of a bundle, and a user's own choices."""

from pathlib import Path

import click
from rich.table import Table

from ..core import Bundle
from .json_output import json_option, put
from .options import bundle_argument, console, kept_layers, progress_bars

__all__ = ["command"]


@click.command("recipe")
@bundle_argument
@json_option
@click.option(
    "--set", "choices", multiple=True, metavar="LAYER=PRECISION", callback=kept_layers,
    help="Keep a layer, or all that match a pattern such as 'backbone.*', at fp16 or fp32; int8 "
    "takes that back. May be repeated.",
)  # fmt: skip
@click.option(
    "--keep-outputs", is_flag=True,
    help="Keep the layers in FP32 that make scores, boxes and masks.",
)  # fmt: skip
def command(bundle: Path, choices: dict[str, str], keep_outputs: bool) -> None:
    """List the layers of BUNDLE's recipe, or keep some of them wide.

    What was built by the old recipe is removed, since it is no longer the bundle's.
    """
    from ..compiling.recipe_edit import recipe

    with progress_bars():
        found = recipe(bundle, choices, keep_outputs=keep_outputs)
    put({"layers": found.layers, "others": found.others})
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("layer", "precision", "reason"):
        table.add_column(heading)
    for name, choice in found.layers.items():
        table.add_row(name, choice.precision.value, choice.reason)
    for kind, others in found.others.items():
        table.add_row(f"{kind} ({len(others.nodes)})", "fp32", others.reason)
    console().print(table)
    opened = Bundle.open(bundle)
    if (choices or keep_outputs) and not opened.engines() + opened.prepared():
        console().print("Engines are built anew by maskrt build.")
