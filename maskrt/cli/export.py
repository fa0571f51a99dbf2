"""`maskrt export`: MODEL → bundle that holds the canonical graph alone, or one plain ONNX file."""

from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ..core import Bundle
from ..core.bundle import MANIFEST
from .json_output import json_option, put
from .made_bundle import make_and_print
from .options import (
    OUTPUT_FILE,
    PRECISIONS,
    console,
    model_options,
    progress_bars,
)

__all__ = ["command"]


@click.command("export")
@json_option
@partial(model_options, output_required=False)
@click.option(
    "--inlined", type=OUTPUT_FILE, metavar="FILE.onnx",
    help="Write the graph in standard operators alone, for programs that read no local functions.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(PRECISIONS),
    help="Of the file for --inlined, from a bundle's recipe; default: fp32.",
)  # fmt: skip
@click.pass_context
def command(
    context: click.Context,
    class_names: Path | None,
    inlined: Path | None,
    precision: str | None,
    **options: Any,
) -> None:
    """Export MODEL to canonical FP32 ONNX in a bundle.

    MODEL is torchvision:NAME, maskrt:NAME, package.module:factory or FILE.onnx; with --inlined also
    a bundle, which is not changed.
    """
    from ..compiling.inlined import write_inlined
    from ..pipeline import export_bundle

    model, output = options.pop("model"), options.pop("output")
    if precision is not None and inlined is None:
        raise click.UsageError("--precision is that of the file for --inlined: give both.")
    if (Path(model) / MANIFEST).is_file():
        if inlined is None:
            raise click.UsageError(f"{model} is a bundle already: give --inlined FILE.onnx.")
        _refuse_model_options(context)
        bundle = Bundle.open(model)
    elif output is None:
        raise click.UsageError("-o says where the bundle goes: give it, or a bundle as MODEL.")
    else:
        bundle = make_and_print(
            export_bundle, model=model, output=output, class_names=class_names, **options
        )
    if inlined is not None:
        with progress_bars():
            write_inlined(bundle, inlined, precision=precision or "fp32")
        put({"bundle": bundle, "inlined": inlined, "precision": precision or "fp32"})
        console().print(f"{inlined}: standard operators alone, at {precision or 'fp32'}.")


def _refuse_model_options(context: click.Context) -> None:
    """Raise `UsageError` for an option that says what a model is, where a bundle knows that."""
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name not in ("model", "inlined", "precision", "json"):
            raise click.UsageError(
                f"MODEL is a bundle, which is not changed: leave {parameter.opts[0]} out."
            )
