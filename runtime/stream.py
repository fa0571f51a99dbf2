"""A stream of pictures: read and letterboxed in one thread, while the engine runs in another.

    source ─▶ [thread: read → letterbox → batch] ─▶ bounded queue ─▶ [caller: engine] ─▶ Frame

What the caller can rely on:
    * frames come in the source's order, one for each picture, whatever became of it;
    * a picture that cannot be used becomes a frame with an `error`, and the next one is read;
    * what is not one picture's fault ends the stream: an exception of the source itself, or of the
      engine, is raised where the caller iterates, after the frames before it;
    * at most `prefetch` batches wait, so memory is bounded, and a slow engine slows a fast source;
    * the thread starts with the first frame, and ends with the last one, when the generator is
      closed, or when it is dropped. The source is iterated in that thread; a
      generator is closed there.

A source that blocks for ever cannot be interrupted: its (daemon) thread ends at its next picture.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from ..core import InputError, InputSpec, Instances, MaskrtError
from .letterbox import Placement, letterbox, placement
from .pictures import Picture, load_picture

__all__ = ["Frame", "Letterbox", "Placed", "prefetched"]

Letterbox: TypeAlias = Callable[[np.ndarray, InputSpec], tuple[np.ndarray, Placement]]

_JOIN_SECONDS = 5.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Frame:
    """What became of one picture of a stream.

    Attributes:
        index: its place in the stream, from 0.
        source: the picture as the stream gave it: a path or an array.
        image: its pixels, uint8 `[H, W, 3]` RGB; None if it could not be read.
        instances: what was found; None if it failed.
        error: why it failed, else None.
    """

    index: int
    source: Picture
    image: np.ndarray | None
    instances: Instances | None
    error: MaskrtError | None = None

    def result(self) -> Instances:
        """Return the instances, or raise the frame's error."""
        if self.error is not None:
            raise self.error
        assert self.instances is not None  # a frame has one of the two
        return self.instances


@dataclass(frozen=True)
class Placed:
    """A picture read and letterboxed, or the reason why not.

    Attributes:
        index: place in the stream.
        source: the picture as given.
        image: its pixels, or None.
        canvas: uint8 `[H, W, 3]` of the engine's size; None, too, where a device makes it.
        place: where the picture lies on the canvas, or None.
        error: why there is no canvas.
    """

    index: int
    source: Picture
    image: np.ndarray | None = None
    canvas: np.ndarray | None = None
    place: Placement | None = None
    error: MaskrtError | None = None


@dataclass(frozen=True)
class _End:
    """The source's end, or the exception that it ended with."""

    error: BaseException | None = None


def prefetched(
    source: Iterable[Picture],
    spec: InputSpec,
    *,
    prefetch: int,
    letterbox_with: Letterbox | None = letterbox,
) -> Generator[list[Placed], None, None]:
    """Yield batches of pictures, read and letterboxed in a thread ahead of the caller.

    Args:
        source: of pictures; iterated in the thread.
        spec: canvas, and how many pictures a batch has at most.
        prefetch: how many batches may wait, at least 1.
        letterbox_with: makes the canvases; None leaves them to a device.
    """
    ready: queue.Queue[list[Placed] | _End] = queue.Queue(prefetch)
    stop = threading.Event()
    reader = threading.Thread(
        target=_read_ahead,
        args=(source, partial(_place, spec, letterbox_with), spec.batch, ready, stop),
        name="maskrt-reader",
        daemon=True,
    )
    reader.start()
    try:
        while not isinstance(batch := ready.get(), _End):
            yield batch
        if batch.error is not None:
            raise batch.error
    finally:
        stop.set()
        reader.join(_JOIN_SECONDS)


def _read_ahead(
    source: Iterable[Picture],
    place: Callable[[int, Picture], Placed],
    size: int,
    ready: "queue.Queue[list[Placed] | _End]",
    stop: threading.Event,
) -> None:
    """Fill the queue until the source ends or nobody wants more."""
    error: BaseException | None = None
    batch: list[Placed] = []
    try:
        for index, picture in enumerate(source):
            batch.append(place(index, picture))
            if len(batch) == size:
                _put(ready, batch, stop)
                batch = []
            if stop.is_set():
                break
    except BaseException as raised:  # whatever it is, it belongs to the caller's thread
        error = raised
    if isinstance(source, Generator):
        source.close()
    if batch:
        _put(ready, batch, stop)
    _put(ready, _End(error), stop)


def _put(
    ready: "queue.Queue[list[Placed] | _End]", item: "list[Placed] | _End", stop: threading.Event
) -> None:
    while not stop.is_set():
        with contextlib.suppress(queue.Full):
            ready.put(item, timeout=_POLL_SECONDS)
            return


def _place(
    spec: InputSpec, letterbox_with: Letterbox | None, index: int, picture: Picture
) -> Placed:
    try:
        image = load_picture(picture)
        if letterbox_with is None:
            place = placement(image.shape[0], image.shape[1], spec)
            return Placed(index, picture, image, place=place)
        canvas, place = letterbox_with(image, spec)
    except MaskrtError as error:
        return Placed(index, picture, error=error)
    except Exception as error:  # a decoder's own; the pictures after it are none the worse
        reason = f"{type(error).__name__}: {error}"
        wrapped = InputError(f"picture {index} of the stream is not readable ({reason}): skip it.")
        wrapped.__cause__ = error
        return Placed(index, picture, error=wrapped)
    return Placed(index, picture, image, canvas, place)
