"""`maskrt compile`: MODEL → bundle with engines."""

from pathlib import Path
from typing import Any

import click

from ..calib import DEFAULT_METHOD, METHODS
from .options import (
    PRECISIONS,
    improvement_options,
    keep_options,
    model_options,
    progress_bars,
    read_class_names,
)
from .summary import print_bundle

__all__ = ["command"]


@click.command("compile")
@model_options
@click.option(
    "--calibration", type=click.Path(path_type=Path), help="Folder of pictures; INT8 needs it."
)
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True,
    help="What the heavy layers compute in.",
)  # fmt: skip
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default=DEFAULT_METHOD,
    show_default=True,
    help="Calibration method whose scales are used.",
)
@improvement_options
@keep_options
@click.option(
    "--target", "targets", multiple=True, default=("cpu",), show_default=True,
    help="What to build an engine for, see maskrt targets; may be repeated.",
)  # fmt: skip
@click.option(
    "--max-ap-drop",
    type=float,
    metavar="X",
    help="Largest loss of box or mask AP; the fastest recipe inside it is searched.",
)
@click.option(
    "--images", type=click.Path(path_type=Path), help="Annotated pictures to measure AP on."
)
@click.option("--annotations", type=click.Path(path_type=Path), help="Their COCO JSON.")
def command(class_names: Path | None, **options: Any) -> None:
    """Compile MODEL to a bundle with an engine for each --target.

    MODEL is torchvision:NAME, maskrt:NAME, package.module:factory or FILE.onnx.
    """
    from ..pipeline import compile as compile_model

    with progress_bars() as progress:
        bundle = compile_model(
            options.pop("model"),
            options.pop("output"),
            class_names=read_class_names(class_names),
            progress=progress,
            **options,
        )
    print_bundle(bundle)
