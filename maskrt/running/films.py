"""Running an engine over a video: one drawn video out, and all instances as COCO JSON.

The frames are read ahead while the engine runs (`Session.predict_stream`), and written as they
come, so a stream without an end needs no memory beyond its `results`. Such a stream (a camera, a
network address) ends when the user interrupts it; of a file, an interrupted run leaves nothing.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core import InputError, Progress, require, silent
from ..runtime import Frame, Session
from ..runtime.sources import Video
from .tracks import NO_TRACK, Tracks

__all__ = ["Film", "film"]

_RATE = 25.0  # frames a second, where the source does not say
_MISSING = 0.01  # of the frames: containers that have no count give an estimate


@dataclass
class Film:
    """What became of a video.

    Attributes:
        images: COCO's, a frame each.
        annotations: COCO results; those on a track with its number, `track_id`.
        skipped: a sentence for each frame in which nothing could be found, and one if it ended
            before the number of frames that it says it has.
    """

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(
        self, frame: Frame, name: str, first_id: int, min_score: float, tracks: Tracks | None
    ) -> np.ndarray:
        """Note what was found in a frame, and return it drawn; raise the frame's error."""
        found, number = frame.result(), first_id + frame.index
        assert frame.image is not None  # its result is there
        height, width = found.image_size
        self.images.append({"id": number, "file_name": name, "height": height, "width": width})
        entries = found.to_coco(number)
        if tracks is None:
            self.annotations += entries
            return found.draw(frame.image, min_score=min_score)
        ids = tracks.follow(found)
        for entry, track in zip(entries, ids, strict=True):
            if track != NO_TRACK:
                entry["track_id"] = int(track)
        self.annotations += entries
        return found.draw(frame.image, min_score=min_score, track_ids=ids)


def film(
    session: Session,
    source: Path | str,
    output: Path,
    *,
    min_score: float = 0.5,
    first_id: int = 1,
    limit: int | None = None,
    track: bool = False,
    progress: Progress = silent,
) -> Film:
    """Run every frame of a video and write the drawn video `output` (.mp4).

    Args:
        session: the open engine.
        source: a video file, camera or network stream.
        output: the video to write; it appears when all is done.
        min_score: instances below it are not drawn.
        first_id: `image_id` of the first frame.
        limit: stop after so many frames.
        track: follow instances from frame to frame (`tracks.py`).
        progress: told after each frame; a source without an end is always one frame short of it.

    Raises:
        InputError: the video cannot be read; no output is left.
        PrecisionError: the engine's numbers for its first frame are not finite; likewise.
        MissingDependencyError: `track` without a tracker installed; likewise.
    """
    video = Video(source)
    total, rate = video.describe()
    made, done = Film(), 0
    tracks = Tracks(rate=rate or _RATE, min_score=min_score) if track else None
    stage = f"run {Path(video.name).name}"
    partial = output.with_name(f".{output.stem}.partial.mp4")
    known = [number for number in (total, limit) if number is not None]
    try:
        with (
            _writer(partial, rate or _RATE) as write,
            closing(session.predict_stream(iter(video))) as frames,
            _ended_by_user(endless=total is None),
        ):
            for frame in frames:
                if frame.instances is None and made.images and frame.image is not None:
                    made.skipped.append(f"{video.name} frame {frame.index}: {frame.error}")
                    write(frame.image)
                else:  # an engine that fails from the start is no exception
                    name = f"{video.name}#{frame.index}"
                    write(made.add(frame, name, first_id, min_score, tracks))
                done = frame.index + 1
                progress(stage, done, max(min(known), done) if known else done + 1)
                if done == limit:
                    break
        if not made.images:
            raise KeyboardInterrupt
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    expected = 0 if total is None else min(known)
    if done < expected - max(1, expected * _MISSING):  # truncated or damaged: OpenCV says nothing
        made.skipped.append(
            f"{video.name} from frame {done} on: it says that it has {expected}, and OpenCV "
            "decodes no more of them: copy it again or convert it."
        )
    return made


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
