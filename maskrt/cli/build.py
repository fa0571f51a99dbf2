"""`maskrt build`: an engine into a bundle."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core import Bundle, Target, UsageError
from .json_output import json_option
from .options import bundle_argument, console, precision_option, progress_bars
from .summary import print_bundle

if TYPE_CHECKING:
    from ..kit import Place

__all__ = ["command"]


@click.command("build")
@bundle_argument
@json_option
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
@click.option("--kit", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Write all that the device needs without a network.")  # fmt: skip
@click.option("--images", type=click.Path(path_type=Path), metavar="DIR",
              help="With --kit: pictures to test with.")  # fmt: skip
@click.option("--kit-python", "pythons", multiple=True, metavar="X.Y",
              help="With --kit: the device's Python, if not JetPack's or this one.")  # fmt: skip
@click.option("--kit-system", type=click.Choice(["linux", "windows"]), default="linux",
              help="With --kit: the device's system.")  # fmt: skip
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
    kit: Path | None,
    images: Path | None,
    pythons: tuple[str, ...],
    kit_system: str,
) -> None:
    """Build BUNDLE's engine for each --target."""
    from ..pipeline import build
    from ..runtime.build import BuildOptions

    options = BuildOptions(
        workspace_mib, timing_cache, version_compatible, strip_weights, dla, gpu_fallback,
        dynamic_batch, cache=not no_cache, here=here,
    )  # fmt: skip
    built = None
    if kit is not None:
        places = _check_kit(kit, images, targets, pythons, kit_system, here)
        built = Bundle.open(bundle)
    with progress_bars() as progress:
        for target in targets:
            if kit is not None and target == "gpu":
                continue  # built on the device, by nothing that is prepared
            built = build(
                bundle if built is None else built,
                target,
                precision=precision,
                options=options,
                progress=progress,
            )
        if kit is not None and images is not None and built is not None:
            from ..kit import make_kit

            make_kit(built, kit, target=targets[0], images=images, precision=precision,
                     places=places, progress=progress)  # fmt: skip
    assert built is not None  # --target is required
    print_bundle(built)
    if kit is not None:
        console().print(f"{kit} has all that the device needs: copy it there, and read README.md.")


def _check_kit(
    kit: Path,
    images: Path | None,
    targets: tuple[str, ...],
    pythons: tuple[str, ...],
    system: str,
    here: bool,
) -> "tuple[Place, ...]":
    """Refuse what makes no kit, before anything is built."""
    from ..core.folders import check_free
    from ..kit import places_of

    if images is None:
        raise UsageError("--kit tests the engine with pictures: add --images DIR.")
    if len(targets) != 1 or here:
        raise UsageError("--kit is for one --target on another machine: leave the rest out.")
    check_free(kit, "folder")
    return places_of(Target.parse(targets[0]), pythons, system)
