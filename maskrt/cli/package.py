"""`maskrt package`: an engine or a graph for another server."""

from pathlib import Path
from typing import Any

import click

from .json_output import json_option, put
from .options import bundle_argument, console, precision_option, progress_bars, trust_options

__all__ = ["command"]


@click.command("package")
@bundle_argument
@json_option
@click.option(
    "--triton", type=click.Path(path_type=Path), metavar="DIR",
    help="Write a model into this Triton model repository.",
)  # fmt: skip
@click.option(
    "--deepstream", type=click.Path(path_type=Path), metavar="DIR",
    help="Write a graph, an nvinfer configuration and its parser into this new folder.",
)  # fmt: skip
@click.option("--target", help="See maskrt targets; default: cpu for Triton, gpu for DeepStream.")
@precision_option
@click.option("--name", help="Of the model in Triton; default: the bundle's.")
@trust_options
def command(bundle: Path, **options: Any) -> None:
    """Package BUNDLE for Triton Inference Server or DeepStream."""
    from ..packaging.package import package

    with progress_bars():
        made = package(bundle, **options)
    put(made)
    if made.command is not None:
        console().print(f"{made.folder}: serve it with {made.command}")
        return
    console().print(
        f"{made.folder}: build the engine and the parser on the device, as {made.folder}/README.md "
        "says"
    )
