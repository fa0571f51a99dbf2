"""Running an engine over a video: one drawn video out, and all instances as COCO JSON.

The frames are read ahead while the engine runs (`Session.predict_stream`), and written as they
come, so a stream without an end needs no memory beyond its `results`. Such a stream (a camera, a
network address) ends when the user interrupts it; of a file, an interrupted run leaves nothing.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ..core import InputError, Progress, require, silent
from ..runtime import Session
from ..runtime.sources import Video
from .kept import Kept
from .tracks import Tracks

__all__ = ["film"]

_RATE = 25.0  # frames a second, where the source does not say
_MISSING = 0.01  # of the frames: containers that have no count give an estimate


def film(
    session: Session,
    source: Path | str,
    output: Path,
    kept: Kept,
    *,
    draw: bool = True,
    limit: int | None = None,
    track: bool = False,
    progress: Progress = silent,
) -> list[str]:
    """Run every frame of a video and write the drawn video `output` (.mp4).

    Args:
        session: the open engine.
        source: a video file, camera or network stream.
        output: the video to write; it appears when all is done.
        kept: gets what is found, an image a frame, numbered on from what it has.
        draw: write the video; without it only `kept` has what was found.
        limit: stop after so many frames.
        track: follow instances from frame to frame (`tracks.py`).
        progress: told after each frame; a source without an end is always one frame short of it.

    Returns:
        A sentence for each frame in which nothing could be found, and one if it ended before the
        number of frames that it says it has.

    Raises:
        InputError: the video cannot be read; no output is left.
        PrecisionError: the engine's numbers for its first frame are not finite; likewise.
        MissingDependencyError: `track` without a tracker installed; likewise.
    """
    video = Video(source)
    total, rate = video.describe()
    skipped: list[str] = []
    done, any_found = 0, False
    tracks = Tracks(rate=rate or _RATE, min_score=kept.min_score) if track else None
    first_id = max((image["id"] for image in kept.images), default=0) + 1
    stage = f"run {Path(video.name).name}"
    partial = output.with_name(f".{output.stem}.partial.mp4")
    known = [number for number in (total, limit) if number is not None]
    try:
        with (
            _writer(partial, rate or _RATE) if draw else nullcontext(_nothing) as write,
            closing(session.predict_stream(iter(video))) as frames,
            _ended_by_user(endless=total is None),
        ):
            for frame in frames:
                if frame.instances is None and any_found and frame.image is not None:
                    skipped.append(f"{video.name} frame {frame.index}: {frame.error}")
                    write(frame.image)
                else:  # an engine that fails from the start is no exception
                    found = kept.chosen(frame.result())
                    assert frame.image is not None  # its result is there
                    ids = None if tracks is None else tracks.follow(found)
                    if draw:
                        score = kept.min_score
                        write(found.draw(frame.image, min_score=score, track_ids=ids))
                    name = f"{output.stem}-{frame.index:06d}"
                    number = first_id + frame.index
                    kept.add(found, name, number, f"{video.name}#{frame.index}", None, ids)
                    any_found = True
                done = frame.index + 1
                progress(stage, done, max(min(known), done) if known else done + 1)
                if done == limit:
                    break
        if not any_found:
            raise KeyboardInterrupt
        if draw:
            partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    expected = 0 if total is None else min(known)
    if done < expected - max(1, expected * _MISSING):  # truncated or damaged: OpenCV says nothing
        skipped.append(
            f"{video.name} from frame {done} on: it says that it has {expected}, and OpenCV "
            "decodes no more of them: copy it again or convert it."
        )
    return skipped


def _nothing(_: np.ndarray) -> None:
    """Write no frame."""


@contextmanager
def _ended_by_user(*, endless: bool) -> Iterator[None]:
    """Let an interrupt be the end of what has no other."""
    try:
        yield
    except KeyboardInterrupt:
        if not endless:
            raise


@contextmanager
def _writer(file: Path, rate: float) -> Iterator[Any]:
    """Yield a function that appends an RGB frame; the first one's size is the video's.

    OpenCV would leave out a frame of another size without a word, so such a one is resized.
    """
    cv2 = require("cv2", "write videos")
    writers: list[Any] = []
    size: list[int] = []

    def write(image: np.ndarray) -> None:
        if not writers:
            size.extend((image.shape[1], image.shape[0]))
            code = cv2.VideoWriter_fourcc(*"mp4v")
            writers.append(cv2.VideoWriter(str(file), code, rate, tuple(size)))
            if not writers[0].isOpened():
                raise InputError(f"OpenCV cannot write the video {file}: install it with FFmpeg.")
        if [image.shape[1], image.shape[0]] != size:
            image = cv2.resize(image, tuple(size))
        writers[0].write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    try:
        yield write
    finally:
        for writer in writers:
            writer.release()
