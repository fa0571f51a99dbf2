"""Batches of a stream through a device: the next one is queued before one is waited for.

    batch n ─▶ upload, compute, download ─▶ (batch n, its frames)
    batch n + 1 ─▶ upload, compute, …          is queued meanwhile

A batch is waited for as soon as all slots are taken, and not only when there is another: a camera's
frames would be one later. What the source or the device raises comes after the batches before it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from .stream import Placed

if TYPE_CHECKING:
    from .cuda import FrameSlots
    from .cuda.frame import Frames

__all__ = ["in_flight"]


def in_flight(
    batches: Iterable[list[Placed]], slots: "FrameSlots", check: Callable[[], object]
) -> Iterator[tuple[list[Placed], "Frames | None"]]:
    """Yield each batch, in order, with what the device found in its pictures.

    Args:
        batches: pictures that were read, or the reasons why not.
        slots: of the device.
        check: called before each batch is queued; it raises if none may be.

    Yields:
        The batch, and the device's frames for those of it that have a picture; None if none has.
    """
    waiting: deque[list[Placed]] = deque()
    upcoming, failed = iter(batches), None
    while failed is None:
        if len(waiting) == slots.depth:
            yield _collected(waiting.popleft(), slots)
        try:
            batch = next(upcoming, None)
            if batch is None:
                break
            if images := _images(batch):
                check()
                slots.submit(images)
            waiting.append(batch)
        except Exception as error:
            failed = error
    while waiting:
        yield _collected(waiting.popleft(), slots)
    if failed is not None:
        raise failed


def _images(batch: list[Placed]) -> list[np.ndarray]:
    return [placed.image for placed in batch if placed.image is not None]


def _collected(batch: list[Placed], slots: "FrameSlots") -> tuple[list[Placed], "Frames | None"]:
    return batch, slots.collect() if _images(batch) else None
