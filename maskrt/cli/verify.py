"""`maskrt verify`: whether a bundle is as its signer had it."""

from pathlib import Path

import click

from ..core import counted
from .json_output import json_option, put
from .options import bundle_argument, console, progress_bars

__all__ = ["command"]


@click.command("verify")
@bundle_argument
@json_option
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="FILE",
    help="The signer's public key; default: those in ~/.config/maskrt/trusted-keys.",
)  # fmt: skip
def command(bundle: Path, key: Path | None) -> None:
    """Say whether BUNDLE is signed by a key that you trust, and as it was signed."""
    from ..packaging.signature import verify

    with progress_bars():
        found = verify(bundle, key=key)
    put(found)
    screen = console()
    said = ", ".join(part for part in found.comment.split("\t") if part.startswith("timestamp:"))
    screen.print(f"signed    by the key {found.key} ({said or found.comment})")
    screen.print(f"the same  {counted(found.files, 'file')}")
    others = {"added": found.added, "changed": found.changed, "left out": found.left_out}
    for word, names in others.items():
        if names:
            screen.print(f"{word:9} {', '.join(names)}", style="yellow")
