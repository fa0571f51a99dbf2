"""`maskrt calibrate`: pictures → the bundle's recipe."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from ..calib import DEFAULT_METHOD, METHODS
from .json_output import json_option
from .options import PRECISIONS, bundle_argument, improvement_options, keep_options, progress_bars
from .summary import print_bundle

__all__ = ["command"]


@click.command("calibrate")
@bundle_argument
@json_option
@click.option(
    "--calibration", type=click.Path(path_type=Path), required=True, help="Folder of pictures."
)
@click.option("--precision", type=click.Choice(PRECISIONS[:-1]), default="int8", show_default=True)
@click.option(
    "--method", type=click.Choice(METHODS), default=DEFAULT_METHOD, show_default=True,
    help="Whose scales are used; the recipe holds those of all.",
)  # fmt: skip
@click.option(
    "--dask", metavar="ADDRESS", help="Spread the pictures over the workers of a Dask scheduler."
)
@improvement_options
@keep_options
@click.option(
    "--images", type=click.Path(path_type=Path), help="Annotated pictures to measure AP on."
)
@click.option("--annotations", type=click.Path(path_type=Path), help="Their COCO JSON.")
def command(
    bundle: Path,
    calibration: Path,
    precision: str,
    method: str,
    dask: str | None,
    keep: dict[str, str],
    keep_outputs: bool,
    **improve: Any,
) -> None:
    """Measure BUNDLE's activations on pictures and write its recipe; engines are removed.

    A run that was stopped goes on where it was.
    """
    from ..cluster.calibration import calibrate_on_cluster
    from ..pipeline import calibrate

    if dask is not None and any(improve.values()):
        raise click.UsageError(
            "--dask only spreads the calibration pass: leave --bias-correction, --equalise and "
            "their pictures out."
        )
    run = (
        partial(calibrate, **improve)
        if dask is None
        else partial(calibrate_on_cluster, address=dask)
    )
    with progress_bars() as progress:
        calibrated = run(
            bundle, calibration, precision=precision, method=method, keep=keep,
            keep_outputs=keep_outputs, progress=progress,
        )  # fmt: skip
    print_bundle(calibrated)
