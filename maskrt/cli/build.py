"""`maskrt build`: an engine into a bundle."""

from pathlib import Path

import click

from .options import bundle_argument, precision_option, progress_bars
from .summary import print_bundle

__all__ = ["command"]


@click.command("build")
@bundle_argument
@click.option("--target", "targets", multiple=True, required=True, help="See maskrt targets.")
@precision_option
def command(bundle: Path, targets: tuple[str, ...], precision: str | None) -> None:
    """Build BUNDLE's engine for each --target."""
    from ..pipeline import build

    built = None
    with progress_bars() as progress:
        for target in targets:
            built = build(bundle if built is None else built, target, precision=precision,
                          progress=progress)  # fmt: skip
    assert built is not None  # --target is required
    print_bundle(built)
