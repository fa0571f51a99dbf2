"""`maskrt build`: an engine into a bundle."""

from pathlib import Path

import click

from .options import bundle_argument, precision_option, progress_bars
from .summary import print_bundle

__all__ = ["command"]


@click.command("build")
@bundle_argument
@click.option("--target", "targets", multiple=True, required=True,
              help="See maskrt targets; may be repeated.")  # fmt: skip
@precision_option
@click.option(
    "--workspace",
    "workspace_mib",
    type=int,
    metavar="MIB",
    help="Scratch memory that the builder may use; default: what suits the target.",
)
@click.option(
    "--timing-cache",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where kernel timings are kept; default: a file for each device.",
)
@click.option("--version-compatible", is_flag=True, help="Also loads in later TensorRT versions.")
@click.option("--strip-weights", is_flag=True, help="Without weights, for others to refit.")
@click.option("--dla", type=int, metavar="N", help="Run on a deep learning accelerator.")
@click.option("--gpu-fallback", is_flag=True, help="What the DLA does not take runs on the GPU.")
@click.option(
    "--dynamic-batch",
    type=(int, int, int),
    default=None,
    metavar="MIN OPT MAX",
    help="Pictures a call; a bundle's graph has one number, so all three are that.",
)
@click.option("--no-cache", is_flag=True, help="Build anew, and keep nothing for later builds.")
@click.option("--here", is_flag=True, help="Build on this machine; never prepare for another.")
def command(
    bundle: Path,
    targets: tuple[str, ...],
    precision: str | None,
    no_cache: bool,
    workspace_mib: int | None,
    timing_cache: Path | None,
    version_compatible: bool,
    strip_weights: bool,
    dla: int | None,
    gpu_fallback: bool,
    dynamic_batch: tuple[int, int, int] | None,
    here: bool,
) -> None:
    """Build BUNDLE's engine for each --target."""
    from ..pipeline import build
    from ..runtime.build import BuildOptions

    options = BuildOptions(
        workspace_mib, timing_cache, version_compatible, strip_weights, dla, gpu_fallback,
        dynamic_batch, cache=not no_cache, here=here,
    )  # fmt: skip
    built = None
    with progress_bars() as progress:
        for target in targets:
            built = build(
                bundle if built is None else built,
                target,
                precision=precision,
                options=options,
                progress=progress,
            )
    assert built is not None  # --target is required
    print_bundle(built)
