"""`maskrt run`: pictures and videos → the same with masks, and COCO JSON."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core import counted
from ..running.mask_files import FORMATS
from .json_output import json_option, put
from .options import (
    bundle_argument,
    console,
    on_device_option,
    precision_option,
    progress_bars,
    trust_options,
)

if TYPE_CHECKING:
    from ..runtime.trust import Trust

__all__ = ["command"]


@click.command("run")
@bundle_argument
@json_option
@click.argument("sources", nargs=-1, required=True, metavar="IMAGE|DIR|PATTERN|VIDEO...")
@click.option("--target", help="Default: the best that this machine can run.")
@precision_option
@on_device_option
@trust_options
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("maskrt-run"),
              show_default=True, help="Folder for the pictures and results.json.")  # fmt: skip
@click.option(
    "--min-score",
    "--score",
    "min_score",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Drawn, and written by --masks, from here up.",
)
@click.option("--classes", metavar="NAME,...", help="Keep these alone: names or numbers.")
@click.option("--no-draw", is_flag=True, help="Write no pictures and videos, only results.")
@click.option("--masks", "formats", type=click.Choice(FORMATS), multiple=True,
              help="Write what is found for other tools, too; can be repeated.")  # fmt: skip
@click.option("--annotations", type=click.Path(path_type=Path), metavar="JSON",
              help="COCO file of the pictures: results.json gets its ids.")  # fmt: skip
@click.option("--track", is_flag=True, help="Follow instances through a video: numbers, colours.")
@click.option(
    "--max-frames", type=click.IntRange(min=1), metavar="N", help="Of each video; default: all."
)
@click.option("--recursive", is_flag=True, help="Search the subfolders of folders, too.")
def command(
    bundle: Path,
    sources: tuple[str, ...],
    target: str | None,
    precision: str | None,
    on_device: bool,
    output: Path,
    min_score: float,
    classes: str | None,
    no_draw: bool,
    formats: tuple[str, ...],
    annotations: Path | None,
    track: bool,
    max_frames: int | None,
    recursive: bool,
    trust: "Trust",
) -> None:
    """Find instances in pictures and videos with an engine of BUNDLE.

    A video is a file, a camera (0, camera:0, /dev/video0), an rtsp:// or http:// address, or a
    GStreamer pipeline. Ctrl-C ends a camera or a network stream, and what was found until then is
    written. A picture that cannot be used is left out and named, and the exit status is 1 then.
    """
    from ..running.pictures import run
    from ..runtime.sources import is_video

    kept = None if classes is None else classes.split(",")
    with progress_bars() as progress:
        found = run(
            bundle, sources, output, target=target, precision=precision, min_score=min_score,
            classes=kept, draw=not no_draw, masks=formats, annotations=annotations,
            on_device=on_device, max_frames=max_frames, recursive=recursive, track=track,
            trust=trust, progress=progress,
        )  # fmt: skip
    shown = [entry for entry in found.annotations if entry["score"] >= min_score]
    count = len(found.images)
    put(
        {
            "output": found.output,
            "pictures": count,
            "instances": len(found.annotations),
            "min_score": min_score,
            "drawn": len(shown),
            "seconds": found.seconds,
            "passed_over": found.passed_over,
            "skipped": found.skipped,
        }
    )
    where = counted(count, "picture")
    if any(map(is_video, sources)):
        where = f"{count} pictures and frames"
    beside = "" if no_draw else " and the pictures beside it"
    screen = console()
    screen.print(
        f"{counted(len(shown), 'instance')} of score {min_score:g} or more in {where}: "
        f"{output / 'results.json'}{beside}."
    )
    by_class = Counter(entry["category_id"] for entry in shown)
    names = {entry["id"]: entry["name"] for entry in found.categories}
    if by_class:
        said = [f"{names.get(label, f'class {label}')} {n}" for label, n in by_class.most_common()]
        screen.print(", ".join(said))
    screen.print(f"{count / max(found.seconds, 1e-9):.1f} pictures/s, files read and written.")
    for sentence in found.passed_over:
        screen.print(f"passed over: {sentence}", markup=False)
    for sentence in found.skipped:
        screen.print(f"left out: {sentence}", style="red")
    if found.skipped:
        raise SystemExit(1)
