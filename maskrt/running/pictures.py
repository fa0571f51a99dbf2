"""Running an engine over files: pictures and videos with masks drawn, all instances as COCO JSON.

`results.json` is a COCO results array, `images.json` a COCO data set without annotations that gives
its `image_id`s their files: `COCO("images.json").loadRes("results.json")` reads the two. A picture
that cannot be used is left out and named; only if none can is that an error.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import (
    Bundle,
    InputError,
    Precision,
    Progress,
    Target,
    UsageError,
    counted,
    require,
    silent,
)
from ..core.whole_file import whole_file, write_text
from ..runtime import open_session
from ..runtime.images import passed_over
from ..runtime.possible import check_can_exist
from ..runtime.sources import Video, is_video, list_sources
from ..runtime.trust import Trust
from .annotated import AnnotatedIds
from .films import film
from .kept import Kept, labels_of
from .mask_files import MaskFiles, check_formats
from .tracks import check_tracker

__all__ = ["RunResult", "run"]

_RESULTS, _IMAGES = "results.json", "images.json"
_LONGEST = 100  # letters of a name that is made from an address


@dataclass(frozen=True)
class RunResult:
    """What a run found.

    Attributes:
        output: the folder with the pictures, `results.json` and `images.json`.
        images: COCO's `images`, one a picture or frame that was run.
        annotations: COCO results with `image_id`, of any score.
        categories: COCO's `categories`; empty if the labels have no names.
        skipped: a sentence for each picture or frame that cannot be used, and each video that ends
            too early.
        seconds: from the first picture to the last, reading and writing included.
        passed_over: for each folder, what was in it and is no picture by its name.
    """

    output: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    skipped: list[str]
    seconds: float = 0.0
    passed_over: list[str] = field(default_factory=list)


def run(
    bundle: Bundle | Path | str,
    sources: Sequence[Path | str] | Path | str,
    output: Path | str,
    *,
    target: Target | str | None = None,
    precision: Precision | str | None = None,
    min_score: float = 0.5,
    classes: Sequence[str | int] | None = None,
    draw: bool = True,
    masks: Sequence[str] = (),
    annotations: Path | str | None = None,
    on_device: bool = False,
    max_frames: int | None = None,
    recursive: bool = False,
    track: bool = False,
    trust: Trust = False,
    progress: Progress = silent,
) -> RunResult:
    """Run every picture and video of `sources`, and write to the folder `output`.

    Args:
        bundle: holds the engine.
        sources: files, folders of pictures, patterns, and videos, as in `runtime/sources.py`; one
            of them or several.
        output: gets a PNG a picture, an MP4 a video, `results.json` and `images.json`.
        target: None is the best that this machine can run.
        precision: None is the bundle's own.
        min_score: instances below it are neither drawn nor in `masks`; `results.json` has them all.
        classes: names or numbers of the only classes that are kept.
        draw: write the pictures and videos with masks.
        masks: formats for other tools, beside `results.json`: "png", "coco", "yolo", "labelme",
            "csv"; see `mask_files.py`.
        annotations: COCO instances JSON of the pictures: `results.json` gets its image ids and
            category ids, so that COCO's tools can score it.
        on_device: letterbox and paste on the GPU, too.
        max_frames: of each video; without it a camera runs until it is interrupted.
        recursive: search the subfolders of folders, too.
        track: follow instances through each video (`tracks.py`): `results.json` has a `track_id`
            for those that are followed, from 1 in each video, and a track keeps its colour.
        trust: True opens an engine for a GPU whoever built it, a path that of a bundle which this
            public key signed; see `maskrt.load`.
        progress: told how many pictures are done.

    Raises:
        UsageError: an output file would overwrite a picture of `sources`, a class or format that is
            not known, `on_device` for a target without a device, or `track` without a video;
            nothing was written.
        InputError: no picture can be used, or a video cannot, or a picture is not among the
            annotations; of those, nothing was written.
        MissingDependencyError: a package is not installed; nothing was written.
        UnsupportedTargetError: no engine of that precision can be had there, or run here.
        UntrustedError: the engine is machine code that was not built here; nothing was written.
    """
    opened = Bundle.open(bundle)
    formats = check_formats(masks)
    check_can_exist(opened, target, precision)
    labels = labels_of(classes, opened.manifest.class_names)
    given = [sources] if isinstance(sources, str | Path) else sources
    videos = [str(source) for source in given if is_video(source)]
    pictures = [source for source in given if not is_video(source)]
    _check_tracking(track, videos)
    files = [file for source in pictures for file in list_sources(source, recursive)]
    drawings = _distinct_names(files, ".png")
    films = _distinct_names([_as_file(Video(video)) for video in videos], ".mp4")
    folder = Path(output)
    inputs = [*files, *(Path(video) for video in videos if Video(video).is_file)]
    written = [*drawings, *films] if draw else []
    _check_output(folder, [*written, _RESULTS, _IMAGES, *MaskFiles.tables(formats)], inputs)
    if annotations is not None and videos:
        raise UsageError(
            f"{videos[0]} is a video, and annotations number pictures: run it without them."
        )
    ids = None if annotations is None else AnnotatedIds(opened.manifest, annotations)
    numbered = list(enumerate(map(str, files), 1)) if ids is None else [ids.of(f) for f in files]
    pillow = require("PIL.Image", "write pictures")
    kept = Kept(min_score, MaskFiles(folder, formats), labels, ids)
    skipped: list[str] = []
    stale: list[Path] = []
    with (
        _none_left_empty(folder),
        open_session(opened, target, precision, on_device=on_device, trust=trust) as session,
    ):
        started = time.perf_counter()
        for frame in session.predict_stream(files):
            progress("run", frame.index + 1, len(files))
            drawn = folder / drawings[frame.index]
            if frame.instances is None or frame.image is None:
                skipped.append(str(frame.error))
                stale.append(drawn)
                continue
            found = kept.chosen(frame.instances)
            folder.mkdir(parents=True, exist_ok=True)
            _forget_earlier(folder, formats)
            if draw:
                pixels = found.draw(frame.image, min_score=min_score)
                with whole_file(drawn) as partial:
                    pillow.fromarray(pixels).save(partial)
            kept.add(found, drawn.stem, *numbered[frame.index], files[frame.index])
        if skipped and not kept.images:
            raise InputError(skipped[0])
        for drawn in stale if draw else ():  # an earlier run's
            drawn.unlink(missing_ok=True)
        for video, name in zip(videos, films, strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            skipped += film(
                session, video, folder / name, kept, draw=draw, limit=max_frames, track=track,
                progress=progress,
            )  # fmt: skip
            _forget_earlier(folder, formats)
        seconds = time.perf_counter() - started
        names = session.class_names
    categories = [{"id": label, "name": name} for label, name in enumerate(names or ())][1:]
    if ids is not None:
        categories = ids.categories
    if kept.unknown:
        skipped.append(
            f"{counted(kept.unknown, 'instance')} of classes that {annotations} has no category "
            "for."
        )
    over = [
        f"{source}: {said}"
        for source in pictures
        if Path(source).is_dir() and (said := passed_over(source, recursive))
    ]
    result = RunResult(folder, kept.images, kept.annotations, categories, skipped, seconds, over)
    _write_results(result)
    kept.files.close(kept.images, categories, names)
    return result


def _write_results(found: RunResult) -> None:
    """Write `images.json`, a data set without annotations, and `results.json`, its results."""
    dataset = {
        "images": found.images, "annotations": [], "categories": found.categories,
        "skipped": found.skipped,
    }  # fmt: skip
    write_text(found.output / _IMAGES, json.dumps(dataset) + "\n")
    write_text(found.output / _RESULTS, json.dumps(found.annotations) + "\n")


def _check_tracking(track: bool, videos: Sequence[str]) -> None:
    """Raise `UsageError` where there is nothing to track in, before anything is done."""
    if track and not videos:
        raise UsageError(
            "tracks lead from frame to frame, and no video is among what is to be run: name a "
            "video, or leave tracking out."
        )
    if track:
        check_tracker()


def _forget_earlier(folder: Path, formats: Sequence[str]) -> None:
    """Remove the results of an earlier run, whose pictures are being overwritten."""
    for earlier in (_RESULTS, _IMAGES, *MaskFiles.tables(formats)):
        (folder / earlier).unlink(missing_ok=True)


def _check_output(folder: Path, names: Sequence[str], files: Sequence[Path]) -> None:
    """Raise `UsageError` if writing `names` into `folder` would overwrite one of `files`."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, so no results can be written inside it.")
    inputs = {_identity(file): file for file in files if file.exists()}
    for written in (folder / name for name in names):
        if written.exists() and _identity(written) in inputs:
            raise UsageError(
                f"{written} would overwrite the input picture {inputs[_identity(written)]}: name "
                "another output folder."
            )


@contextmanager
def _none_left_empty(folder: Path) -> Iterator[None]:
    """On an error, remove `folder` and its parents again where they are new and hold nothing."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):  # what is not there, or holds something
            for place in new:
                place.rmdir()
        raise


def _identity(file: Path) -> tuple[int, int]:
    """Return what is equal for two paths of one file, links and upper case notwithstanding."""
    status = file.stat()
    return status.st_dev, status.st_ino


def _as_file(video: Video) -> Path:
    """Return a name for a film of it; that of an address may be no file's, or a long one."""
    path = Path(video.name)
    return path if video.is_file else Path(re.sub(r"[^\w.-]+", "-", path.name)[-_LONGEST:])


def _distinct_names(files: Sequence[Path], suffix: str) -> list[str]:
    """Return a name for each file's result; files of one stem from several folders get a number."""
    taken: set[str] = set()
    names = []
    for file in files:
        name, number = f"{file.stem}{suffix}", 1
        while name in taken:
            number += 1
            name = f"{file.stem}-{number}{suffix}"
        taken.add(name)
        names.append(name)
    return names
