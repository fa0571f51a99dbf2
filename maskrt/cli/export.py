"""`maskrt export`: MODEL → bundle that holds the canonical graph alone."""

from typing import Any

import click

from .made_bundle import make_and_print
from .options import model_options

__all__ = ["command"]


@click.command("export")
@model_options
def command(**options: Any) -> None:
    """Export MODEL to canonical FP32 ONNX in a bundle.

    MODEL is torchvision:NAME, maskrt:NAME, package.module:factory or FILE.onnx.
    """
    from ..pipeline import export_bundle

    make_and_print(export_bundle, **options)
