"""`maskrt run`: pictures and videos → the same with masks, and COCO JSON."""

from pathlib import Path

import click

from ..core import counted
from .options import bundle_argument, console, on_device_option, precision_option, progress_bars

__all__ = ["command"]


@click.command("run")
@bundle_argument
@click.argument("sources", nargs=-1, required=True, metavar="IMAGE|DIR|PATTERN|VIDEO...")
@click.option("--target", help="Default: the best that this machine can run.")
@precision_option
@on_device_option
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("maskrt-run"),
              show_default=True, help="Folder for the pictures and results.json.")  # fmt: skip
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Drawn from here up.",
)
@click.option("--track", is_flag=True, help="Follow instances through a video: numbers, colours.")
@click.option(
    "--max-frames", type=click.IntRange(min=1), metavar="N", help="Of each video; default: all."
)
def command(
    bundle: Path,
    sources: tuple[str, ...],
    target: str | None,
    precision: str | None,
    on_device: bool,
    output: Path,
    min_score: float,
    track: bool,
    max_frames: int | None,
) -> None:
    """Find instances in pictures and videos with an engine of BUNDLE.

    A video is a file, camera:N, an rtsp:// or http:// address, or a GStreamer pipeline. Ctrl-C ends
    a camera or a network stream, and what was found until then is written. A picture that cannot be
    used is left out and named, and the exit status is 1 then.
    """
    from ..running.pictures import run
    from ..runtime.sources import is_video

    with progress_bars() as progress:
        found = run(
            bundle, sources, output, target=target, precision=precision, min_score=min_score,
            on_device=on_device, max_frames=max_frames, track=track, progress=progress,
        )  # fmt: skip
    shown = sum(entry["score"] >= min_score for entry in found.annotations)
    where = counted(len(found.images), "picture")
    if any(map(is_video, sources)):
        where = f"{len(found.images)} pictures and frames"
    screen = console()
    screen.print(
        f"{counted(shown, 'instance')} of score {min_score:g} or more in {where}: "
        f"{output / 'results.json'} and the pictures beside it."
    )
    for sentence in found.skipped:
        screen.print(f"left out: {sentence}", style="red")
    if found.skipped:
        raise SystemExit(1)
