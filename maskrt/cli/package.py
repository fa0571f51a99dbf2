"""`maskrt package`: an engine for another server."""

from pathlib import Path

import click

from .options import bundle_argument, console, precision_option

__all__ = ["command"]


@click.command("package")
@bundle_argument
@click.option(
    "--triton", required=True, type=click.Path(path_type=Path), metavar="DIR",
    help="Write a model into this Triton model repository.",
)  # fmt: skip
@click.option("--target", default="cpu", show_default=True, help="See maskrt targets.")
@precision_option
@click.option("--name", help="Of the model; default: the bundle's.")
def command(
    bundle: Path, triton: Path, target: str, precision: str | None, name: str | None
) -> None:
    """Package BUNDLE's engine for Triton Inference Server."""
    from ..packaging import package_triton

    folder = package_triton(bundle, triton, target=target, precision=precision, name=name)
    console().print(f"{folder}: serve it with tritonserver --model-repository {triton}")
