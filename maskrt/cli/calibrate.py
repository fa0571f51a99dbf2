"""`maskrt calibrate`: pictures → the bundle's recipe."""

from pathlib import Path

import click

from ..calib import DEFAULT_METHOD, METHODS
from .options import PRECISIONS, bundle_argument, progress_bars
from .summary import print_bundle

__all__ = ["command"]


@click.command("calibrate")
@bundle_argument
@click.option(
    "--calibration", type=click.Path(path_type=Path), required=True, help="Folder of pictures."
)
@click.option("--precision", type=click.Choice(PRECISIONS[:3]), default="int8", show_default=True)
@click.option(
    "--method", type=click.Choice(METHODS), default=DEFAULT_METHOD, show_default=True,
    help="Whose scales are used; the recipe holds those of all.",
)  # fmt: skip
def command(bundle: Path, calibration: Path, precision: str, method: str) -> None:
    """Measure BUNDLE's activations on pictures and write its recipe; engines are removed."""
    from ..pipeline import calibrate

    with progress_bars() as progress:
        calibrated = calibrate(
            bundle, calibration, precision=precision, method=method, progress=progress
        )
    print_bundle(calibrated)
