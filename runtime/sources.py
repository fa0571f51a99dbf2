"""Where pictures come from: files, folders, globs, video files, cameras, network streams.

| source | yields |
|---|---|
| picture file | its path |
| folder | paths of the pictures directly inside, by name |
| pattern with `*`, `?` or `[` | paths of matching pictures, by name; `**` goes into subfolders |
| video file (by its ending) | its frames, uint8 `[H, W, 3]` RGB |
| `camera:N`, `/dev/videoN`, `N` (if there is no such file) | frames of a camera, without end |
| `rtsp://…`, `http://…`, `https://…`, `udp://…` | frames of a network stream |
| `… ! … ! appsink` | frames of a GStreamer pipeline, as a Jetson's CSI cameras need it |

`pictures_of` gives any of them to a stream. Videos are decoded by OpenCV (the extra `video`), one
frame at a time, when it is asked for; the device or file is closed when the frames end or the
generator is closed.
"""

import glob
import os
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..core import InputError, require
from .images import as_image, list_images, suffixes
from .pictures import Picture, is_picture

__all__ = ["VIDEO_SUFFIXES", "Video", "is_video", "list_sources", "pictures_of"]

VIDEO_SUFFIXES = frozenset(
    (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv")
)
"""File name endings, in lower case, that are taken for videos."""

_STREAM = re.compile(r"(rtsps?|https?|udp|tcp|rtmp)://", re.IGNORECASE)
_PIPELINE = re.compile(r".+ ! (.* )?appsink\b.*")
_SECRET = re.compile(r"([a-z]+://)[^/\s]*@", re.IGNORECASE)
_SECRET_VALUE = re.compile(  # of IP cameras, and of signed addresses
    r"(?<![a-z])((?:pass\w*|pwd?|token|secret|key|auth\w*|sig\w*)=)[^&#/\s]*", re.IGNORECASE
)
_CAMERA = re.compile(r"(?:camera:|/dev/video)?(\d{1,4})")


def is_video(source: Path | str) -> bool:
    """Whether a source is a video file, a camera, a stream or a pipeline, by its name."""
    name = str(source)
    return bool(
        _is_opened_by_name(name)
        or _camera(name) is not None
        or name.startswith("/dev/video")
        or Path(name).suffix.lower() in VIDEO_SUFFIXES
    )


def _camera(name: str) -> int | None:
    """Return the number of the camera that a name means; a number alone may also be a file."""
    found = _CAMERA.fullmatch(name)
    return None if found is None or (name.isdecimal() and Path(name).exists()) else int(found[1])


def list_sources(source: Path | str, recursive: bool = False) -> list[Path]:
    """Return the picture files that a file, folder or pattern names; see the module's table.

    Raises:
        InputError: a folder or pattern without pictures.
    """
    path = Path(source)
    if path.is_dir():
        return list_images(path, recursive)
    if path.exists() or not glob.has_magic(str(source)):
        return [path]
    found = sorted(Path(name) for name in glob.glob(str(source), recursive=True))
    pictures = [p for p in found if p.suffix.lower() in suffixes() and p.is_file()]
    if not pictures:
        raise InputError(f"no picture matches {source}: check the pattern.")
    return pictures


def pictures_of(source: Iterable[Picture] | Path | str) -> Iterable[Picture]:
    """Return the pictures of a source by its name (see the module's table), or of any iterable.

    Raises:
        InputError: a folder or pattern without pictures, or what is no source of pictures.
    """
    if isinstance(source, str | Path):
        return iter(Video(source)) if is_video(source) else list_sources(source)
    iterable = hasattr(source, "__iter__") or hasattr(source, "__getitem__")
    if is_picture(source) or not iterable:
        kind = "one picture" if is_picture(source) else f"of type {type(source).__name__}"
        raise InputError(
            f"a stream needs many pictures, and what was given is {kind}: give it a list, an "
            "iterator, or the name of a folder or video."
        )
    return source


def _is_opened_by_name(name: str) -> bool:
    """Whether it is no file, so that only opening it tells whether it is there."""
    return bool(_STREAM.match(name) or _PIPELINE.fullmatch(name))


class Video:
    """A video file, camera, network stream or GStreamer pipeline, opened when it is iterated.

    Attributes:
        source: what OpenCV opens.
        is_file: it is no camera, address or pipeline.
        name: the same without user, password and keys, for messages and results.
    """

    def __init__(self, source: Path | str) -> None:
        """Name a video; nothing is opened yet."""
        self.source = str(source)
        self.name = self.source
        self.is_file = not (_camera(self.source) is not None or _is_opened_by_name(self.source))
        if _is_opened_by_name(self.source):
            self.name = _SECRET_VALUE.sub(r"\1***", _SECRET.sub(r"\1", self.source))

    def describe(self) -> tuple[int | None, float | None]:
        """Return the number of frames, if it has an end that is known, and the frames a second."""
        capture = self._open()
        try:
            cv2 = require("cv2", "read videos")
            count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            rate = float(capture.get(cv2.CAP_PROP_FPS))
        finally:
            capture.release()
        return (count if count > 0 else None, rate if 0 < rate < 1000 else None)

    def __iter__(self) -> Generator[np.ndarray, None, None]:
        """Yield the frames, uint8 `[H, W, 3]` RGB.

        Raises:
            InputError: it cannot be opened, or has no frame.
            MissingDependencyError: OpenCV is not installed.
        """
        cv2 = require("cv2", "read videos")
        capture = self._open()
        try:
            number = 0
            while True:
                works, frame = capture.read()
                if not works:
                    break
                number += 1
                grey = frame.ndim == 2 or frame.shape[2] == 1  # a pipeline's, or a mono camera's
                yield as_image(frame) if grey else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()
        if not number:
            raise InputError(f"{self.name} has no frame that OpenCV can decode: convert it.")

    def _open(self) -> Any:
        cv2 = require("cv2", "read videos")
        camera, piped = _camera(self.source), _PIPELINE.fullmatch(self.source)
        if self.is_file and not Path(self.source).exists():
            raise InputError(f"{self.name} does not exist: check the path of the video.")
        if piped and not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise InputError(
                f"{self.name} is a GStreamer pipeline, and OpenCV {cv2.__version__} was built "
                "without GStreamer, as pip's is: use that of JetPack or of your system."
            )
        with _quiet(cv2):
            given = (self.source, cv2.CAP_GSTREAMER) if piped else (self.source,)
            capture = cv2.VideoCapture(*(given if camera is None else (camera,)))
        if not capture.isOpened():
            capture.release()
            raise InputError(
                f"{self.name} cannot be opened by OpenCV {cv2.__version__}: check that it is a "
                "video or camera that this machine can read."
            )
        return capture


@contextmanager
def _quiet(cv2: Any) -> Iterator[None]:
    """Keep OpenCV's own lines off standard error: what it cannot open is our sentence to say.

    They are shown where OPENCV_LOG_LEVEL asks for them.
    """
    logging = getattr(cv2.utils, "logging", None)
    if logging is None or "OPENCV_LOG_LEVEL" in os.environ:
        yield
        return
    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)
