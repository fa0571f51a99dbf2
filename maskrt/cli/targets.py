"""`maskrt targets`: what engines can be built for, and whether this machine can run them."""

import click
from rich.table import Table

from ..core import TARGETS
from .options import console

__all__ = ["command"]

_BUILT_BY_THIS_VERSION = ("onnxruntime", "tensorrt_rtx")


@click.command("targets")
def command() -> None:
    """List the targets."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("target", "what it is", "this version"):
        table.add_column(heading)
    for target in TARGETS.values():
        builds = target.backend in _BUILT_BY_THIS_VERSION
        table.add_row(target.name, target.description, "builds it" if builds else "not yet")
    table.add_row("rtx-SM", "TensorRT-RTX for one compute capability, such as rtx-89", "builds it")
    console().print(table)
