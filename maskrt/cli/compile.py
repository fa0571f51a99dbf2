"""`maskrt compile`: MODEL → bundle with engines."""

from pathlib import Path
from typing import Any

import click

from ..calib import DEFAULT_METHOD, METHODS
from .json_output import json_option
from .made_bundle import make_and_print
from .options import (
    PRECISIONS,
    improvement_options,
    keep_options,
    model_options,
)

__all__ = ["command"]


@click.command("compile")
@json_option
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
    "--max-ap75-drop", type=float, metavar="X", help="Beside it: largest loss of box or mask AP75."
)
@click.option(
    "--max-class-drop", type=float, metavar="X", help="Beside it: largest loss of any class's AP."
)
@click.option(
    "--images", type=click.Path(path_type=Path), help="Annotated pictures to measure AP on."
)
@click.option("--annotations", type=click.Path(path_type=Path), help="Their COCO JSON.")
def command(**options: Any) -> None:
    """Compile MODEL to a bundle with an engine for each --target.

    MODEL is torchvision:NAME, maskrt:NAME, package.module:factory or FILE.onnx.
    """
    from ..pipeline import compile as compile_model

    make_and_print(compile_model, **options)
