"""A session: an open engine, and everything between a picture and its instances.

    read → letterbox → engine → postprocess        (→ masks, pasted when they are first asked for)

`predict` does the four one after another; `predict_stream` reads and letterboxes in a thread while
the engine runs (`stream.py`).
"""

import contextlib
import threading
import time
import weakref
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from ..core import (
    InputError,
    InputSpec,
    Instances,
    MaskrtError,
    Precision,
    Target,
    UsageError,
)
from ..core.closes import Closes
from ..core.masks import MaskFrame, MaskPaste
from .backends import Backend
from .in_flight import in_flight
from .letterbox import Placement, fill_batch, letterbox
from .packed import PackedMasks
from .pictures import Picture, load_picture
from .postprocess import Paste, instances_of
from .sources import pictures_of
from .stream import Frame, Letterbox, Placed, prefetched

if TYPE_CHECKING:
    from .cuda import FrameSlots
    from .cuda.frame import Frames

__all__ = ["STAGES", "Session"]

_OnePicture = TypeVar("_OnePicture", bound=Picture)  # a list[Path] is no list[Picture]

_IN_FLIGHT = 2  # frames of a stream on the device: one is uploaded while one is computed

STAGES = ("read", "letterbox", "engine", "postprocess")


class Session(Closes):
    """An open engine, for any number of threads.

    A backend that runs one batch at a time is locked while it does; reading, letterboxing and
    postprocessing go on in the other threads.

    Attributes:
        spec: what the engine takes in.
        class_names: name of each label, or None.
        target: where it runs, or None when opened on a bare backend.
        precision: what was asked of the engine, or None likewise.
    """

    def __init__(
        self,
        backend: Backend,
        spec: InputSpec,
        *,
        class_names: Sequence[str] | None = None,
        target: Target | None = None,
        precision: Precision | None = None,
        letterbox_with: Letterbox | None = None,
        paste_with: Paste | None = None,
        mask_frame: MaskFrame = MaskFrame.BOX,
        mask_paste: MaskPaste = MaskPaste.TORCHVISION,
    ) -> None:
        """Take over `backend`, which the session closes.

        Letterboxing and pasting are the runtime's own, unless a check puts others in their place;
        `mask_frame` and `mask_paste` are the manifest's.

        Raises:
            UsageError: another letterbox or paste for a backend whose device does both.
        """
        self.spec = spec
        self.class_names = class_names
        self.target = target
        self.precision = precision
        self._backend: Backend | None = backend
        self._letterbox = letterbox_with or letterbox
        self._mask_frame, self._mask_paste = mask_frame, mask_paste
        self._paste = paste_with
        self._slots: FrameSlots | None = None
        self._turn = contextlib.nullcontext() if backend.concurrent else threading.Lock()
        held = contextlib.ExitStack()  # closed, the last first, when the session is closed or gone
        held.callback(backend.close)
        self._release = weakref.finalize(self, held.close)
        self._release.atexit = False
        try:
            self._slots = backend.open_frames(spec, 1)
            if self._slots is not None:
                held.callback(self._slots.close)
            _check_device(self._slots, letterbox_with=letterbox_with, paste_with=paste_with)
        except BaseException:
            self.close()
            raise
        self._local = threading.local()

    @property
    def timings(self) -> dict[str, float]:
        """Milliseconds of this thread's last `predict` by stage (`STAGES`), its batches together.

        Pasting masks is in none of them: it happens when `Instances.masks` is first read.
        """
        if not hasattr(self._local, "timings"):
            self._local.timings = dict.fromkeys(STAGES, 0.0)
        timings: dict[str, float] = self._local.timings
        return timings

    @overload
    def predict(
        self, images: list[Picture] | tuple[Picture, ...], *, min_score: float = 0.0
    ) -> list[Instances]: ...

    @overload
    def predict(self, images: list[_OnePicture], *, min_score: float = 0.0) -> list[Instances]: ...

    @overload
    def predict(self, images: Picture, *, min_score: float = 0.0) -> Instances: ...

    def predict(
        self,
        images: "Picture | list[Picture] | list[_OnePicture] | tuple[Picture, ...]",
        *,
        min_score: float = 0.0,
    ) -> Instances | list[Instances]:
        """Find the instances in one picture, or in each of a list.

        Args:
            images: a path, a uint8 `[H, W, 3]` RGB array, a PIL image, a tensor (`pictures.py`), or
                a list of them of any length: it is cut into batches of the engine's size. A tensor
                may be `[3, H, W]`; floats and `[B, …]` are refused, since nothing says what range
                or size they were brought to: the engine normalises and resizes.
            min_score: instances below it are left out.

        Returns:
            One `Instances` for one picture, a list for a list, in pixels of the picture.

        Raises:
            InputError: a picture cannot be used; nothing is returned for the others.
            PrecisionError: the engine returned numbers that are not finite.
        """
        self._local.timings = dict.fromkeys(STAGES, 0.0)
        if isinstance(images, list | tuple):
            groups = range(0, len(images), self.spec.batch)
            found = [r for at in groups for r in self._batch(images[at : at + self.spec.batch])]
            return [one.above(min_score) for one in found]
        return self._batch([images])[0].above(min_score)

    def predict_stream(
        self, source: Iterable[Picture] | Path | str, *, prefetch: int = 2
    ) -> Generator[Frame, None, None]:
        """Find the instances in a stream of pictures of any sizes, in constant memory.

        Args:
            source: any iterable of pictures, which is iterated in a thread of its own; or the name
                of a folder, pattern, video, camera or network stream (`sources.py`). Arrays are not
                copied: nobody may write into one before its frame has come.
            prefetch: how many batches may be read ahead of the engine, at least 1.

        Yields:
            One `Frame` for each picture, in order. A picture that cannot be used is a frame with an
            `error`; the stream goes on after it. See `stream.py`.

        Raises:
            UsageError: `prefetch` is not positive, or the session is closed.
            InputError: the source is none, or a folder or pattern without pictures.
        """
        if prefetch < 1:
            raise UsageError(f"prefetch is {prefetch}, and must be at least 1.")
        self._open_backend()
        return self._frames(pictures_of(source), prefetch)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the engine's raw outputs for one letterboxed batch (see `backends/base.py`).

        Args:
            images: uint8 `[B, H, W, 3]`, exactly the engine's shape.
        """
        if images.dtype != np.uint8 or images.shape != self.spec.shape:
            raise InputError(
                f"the engine takes uint8 {list(self.spec.shape)}, and was given {images.dtype} "
                f"{list(images.shape)}: letterbox the pictures first, or call predict."
            )
        with self._turn:
            return self._open_backend().run(images)

    def place(self, image: np.ndarray) -> tuple[np.ndarray, Placement]:
        """Letterbox a picture as `predict` does: the canvas, and where the picture lies on it."""
        return self._letterbox(image, self.spec)

    def __repr__(self) -> str:
        """Return what is open, in a line."""
        spec = self.spec
        place = f"{self.target.name} {self.precision}" if self.target is not None else "no target"
        return f"<maskrt.Session on {place}, {spec.batch} x {spec.height} x {spec.width}>"

    def describe(self) -> dict[str, Any]:
        """Return backend, version, target and precision as JSON data."""
        return {
            **self._open_backend().describe(),
            "target": None if self.target is None else self.target.name,
            "precision": None if self.precision is None else self.precision.value,
        }

    def close(self) -> None:
        """Close the engine, once it has ended its batch; closing twice does nothing.

        A session that nobody holds any more is closed, too.
        """
        with self._turn:
            self._backend = self._slots = None
            self._release()

    def _open_backend(self) -> Backend:
        if self._backend is None:
            raise UsageError("the session is closed: open another with maskrt.load.")
        return self._backend

    def _batch(self, pictures: Sequence[Picture]) -> list[Instances]:
        """Predict at most one batch of pictures."""
        with self._timed("read"):
            images = [load_picture(picture) for picture in pictures]
        if self._slots is not None:
            return self._batch_on_device(self._slots, images)
        with self._timed("letterbox"):
            placed = [self.place(image) for image in images]
            canvases = fill_batch([canvas for canvas, _ in placed], self.spec.batch)
        with self._timed("engine"):
            outputs = self.run(canvases)
        with self._timed("postprocess"):
            return [self._instances(outputs, i, place) for i, (_, place) in enumerate(placed)]

    def _batch_on_device(self, slots: "FrameSlots", images: list[np.ndarray]) -> list[Instances]:
        """Let the device letterbox, too; "engine" is all that it does."""
        with self._timed("engine"), self._turn:
            self._open_backend()
            slots.submit(images)
            frames = slots.collect()
        with self._timed("postprocess"):
            return [
                self._instances(frames.outputs, i, place, masks)
                for i, (place, masks) in enumerate(zip(frames.places, frames.masks, strict=True))
            ]

    def _frames(self, source: Iterable[Picture], prefetch: int) -> Generator[Frame, None, None]:
        with self._turn:
            backend = self._open_backend()
            shared = self._slots is not None and backend.one_frame
            slots = None if shared else backend.open_frames(self.spec, _IN_FLIGHT)
        if shared:
            yield from self._frames_one_by_one(source, prefetch)
        elif slots is None:
            yield from self._frames_on_host(source, prefetch)
        else:
            batches = prefetched(source, self.spec, prefetch=prefetch, letterbox_with=None)
            with contextlib.closing(slots), contextlib.closing(batches):
                for batch, frames in in_flight(batches, slots, self._open_backend):
                    yield from self._collected(batch, frames)

    def _frames_one_by_one(
        self, source: Iterable[Picture], prefetch: int
    ) -> Generator[Frame, None, None]:
        """Run a stream in the memory that `predict` has, so that there is one set of it."""
        with contextlib.closing(
            prefetched(source, self.spec, prefetch=prefetch, letterbox_with=None)
        ) as batches:
            for batch in batches:
                images = [placed.image for placed in batch if placed.image is not None]
                frames = None
                with self._turn:
                    self._open_backend()
                    if images and self._slots is not None:
                        self._slots.submit(images)
                        frames = self._slots.collect()
                yield from self._collected(batch, frames)

    def _collected(self, batch: list[Placed], frames: "Frames | None") -> list[Frame]:
        if frames is None:
            return [self._frame(placed, {}, None) for placed in batch]
        order = iter(range(len(frames.places)))
        found = []
        for placed in batch:
            slot = None if placed.image is None else next(order)
            masks = None if slot is None else frames.masks[slot]
            found.append(self._frame(placed, frames.outputs, slot, masks))
        return found

    def _frames_on_host(
        self, source: Iterable[Picture], prefetch: int
    ) -> Generator[Frame, None, None]:
        with contextlib.closing(
            prefetched(source, self.spec, prefetch=prefetch, letterbox_with=self._letterbox)
        ) as batches:
            for batch in batches:
                canvases = [placed.canvas for placed in batch if placed.canvas is not None]
                outputs = self.run(fill_batch(canvases, self.spec.batch)) if canvases else {}
                slots = iter(range(len(canvases)))
                for placed in batch:
                    slot = None if placed.canvas is None else next(slots)
                    yield self._frame(placed, outputs, slot)

    def _frame(
        self,
        placed: Placed,
        outputs: dict[str, np.ndarray],
        slot: int | None,
        masks: PackedMasks | None = None,
    ) -> Frame:
        error, found = placed.error, None
        if slot is not None and placed.place is not None:
            try:
                found = self._instances(outputs, slot, placed.place, masks)
            except MaskrtError as raised:
                error = raised
        return Frame(placed.index, placed.source, placed.image, found, error)

    def _instances(
        self,
        outputs: dict[str, np.ndarray],
        index: int,
        place: Placement,
        masks: PackedMasks | None = None,
    ) -> Instances:
        return instances_of(
            outputs, index, place, self.class_names, masks,
            paste=self._paste, mask_frame=self._mask_frame, mask_paste=self._mask_paste,
        )  # fmt: skip

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.timings[stage] += (time.perf_counter() - started) * 1e3


def _check_device(slots: "FrameSlots | None", **others: object) -> None:
    """Refuse what would be put in the place of a device's work, and never be called."""
    given = [name for name, other in others.items() if other is not None]
    if slots is not None and given:
        raise UsageError(
            f"a session whose GPU letterboxes and pastes takes no {given[0]}: open it without "
            "on_device."
        )
