"""`maskrt package`: an engine or a graph for another server."""

from pathlib import Path

import click

from .options import bundle_argument, console, precision_option

__all__ = ["command"]


@click.command("package")
@bundle_argument
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
def command(
    bundle: Path,
    triton: Path | None,
    deepstream: Path | None,
    target: str | None,
    precision: str | None,
    name: str | None,
) -> None:
    """Package BUNDLE for Triton Inference Server or DeepStream."""
    from ..packaging.deepstream import package_deepstream
    from ..packaging.triton import package_triton, triton_command

    if (triton is None) == (deepstream is None):
        raise click.UsageError("give --triton DIR or --deepstream DIR, one of the two.")
    if triton is not None:
        place = target or "cpu"
        folder = package_triton(bundle, triton, target=place, precision=precision, name=name)
        served = triton_command(bundle, triton, target=place, precision=precision)
        console().print(f"{folder}: serve it with {served}")
    elif deepstream is not None:
        if name is not None:
            raise click.UsageError("--name is for --triton: DeepStream's models have no name.")
        folder = package_deepstream(bundle, deepstream, target=target or "gpu", precision=precision)
        console().print(
            f"{folder}: build the engine and the parser on the device, as {folder}/README.md says"
        )
