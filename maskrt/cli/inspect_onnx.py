"""`maskrt inspect FILE.onnx`: what surgery recognises in a foreign graph, and where it stops."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..core import command, counted
from .options import console

if TYPE_CHECKING:
    from ..export.surgery import Examination

__all__ = ["print_onnx"]

_FEW = 3


def print_onnx(path: Path, found: "Examination") -> None:
    """Print the rules that matched, with their nodes, and the checks that declined, and why."""
    screen = console()
    screen.print(f"{path}", style="bold")
    screen.print(
        f"  {counted(found.nodes, 'node')}, {found.folded} after folding what no picture changes"
    )
    screen.print("\nrecognised", style="bold")
    for finding in found.findings:
        screen.print(f"  {finding.rule}: {finding.text}")
        if finding.nodes:
            screen.print(f"    at {_listed(finding.nodes)}")
    if not found.findings:
        screen.print("  nothing")
    if found.warning is not None:
        screen.print(f"\nwarning   {found.warning}", style="yellow")
    if found.paste is not None:
        paste, why = found.paste
        screen.print(f"\nmasks are pasted as {paste} pastes, as {why}; --paste says otherwise")
    if found.declined:
        screen.print("\nnot recognised", style="bold")
        for declined in found.declined:
            screen.print(f"  {declined}")
    elif found.normalised:
        screen.print(f"\n{command('maskrt', 'compile', path)} rewrites it whole.")
    else:
        screen.print("\nto be given", style="bold")
        screen.print(
            "  its pictures are normalised before the graph, and nothing beside it says how: give "
            "--mean and --std,\n  of pixels from 0 to 255, and --channel-order, as the training's "
            "configuration has them"
        )
        numbers = "--mean A B C --std A B C --channel-order rgb|bgr"
        screen.print(f"\n{command('maskrt', 'compile', path)} {numbers} rewrites it whole.")


def _listed(nodes: tuple[str, ...]) -> str:
    shown = ", ".join(nodes[:_FEW])
    return shown if len(nodes) <= _FEW else f"{shown} and {len(nodes) - _FEW} more"
