"""`maskrt export`: MODEL → bundle that holds the canonical graph alone."""

from pathlib import Path
from typing import Any

import click

from .options import model_options, progress_bars, read_class_names
from .summary import print_bundle

__all__ = ["command"]


@click.command("export")
@model_options
def command(class_names: Path | None, **options: Any) -> None:
    """Export MODEL to canonical FP32 ONNX in a bundle.

    MODEL is torchvision:NAME, maskrt:NAME, package.module:factory or FILE.onnx.
    """
    from ..pipeline import export_bundle

    with progress_bars() as progress:
        bundle = export_bundle(
            options.pop("model"),
            options.pop("output"),
            class_names=read_class_names(class_names),
            progress=progress,
            **options,
        )
    print_bundle(bundle)
