"""A session: an open engine, and everything between a picture and its instances.

    read → letterbox → engine → postprocess        (→ masks, pasted when they are first asked for)

Postprocessing maps boxes back through the picture's own scales, clips them to the picture, and
drops those that lay on the filling alone. Masks are pasted from the box as the model gave it: its
mask was predicted for that box, not for the clipped one.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, overload

import numpy as np

from ..core import (
    Bundle,
    InputError,
    InputSpec,
    Instances,
    Precision,
    PrecisionError,
    Target,
    UsageError,
)
from .backends import Backend, choose_target, open_backend
from .images import as_image, read_image
from .letterbox import Placement, fill_batch, letterbox
from .paste import paste_masks

__all__ = ["STAGES", "Picture", "Session", "open_session"]

Picture: TypeAlias = Path | str | np.ndarray
"""A file, or uint8 `[H, W, 3]` RGB."""

Letterbox: TypeAlias = Callable[[np.ndarray, InputSpec], tuple[np.ndarray, Placement]]
Paste: TypeAlias = Callable[[np.ndarray, np.ndarray, tuple[int, int]], np.ndarray]

STAGES = ("read", "letterbox", "engine", "postprocess")


class Session:
    """An open engine. Not for several threads at once: open one session a thread.

    Attributes:
        spec: what the engine takes in.
        class_names: name of each label, or None.
        target: where it runs, or None when opened on a bare backend.
        precision: what was asked of the engine, or None likewise.
        timings: milliseconds of the last `predict`, by stage (`STAGES`), all its batches together.
            Pasting masks is in none of them: it happens when `Instances.masks` is first read.
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
    ) -> None:
        """Take over `backend`, which the session closes.

        Letterboxing and pasting are the runtime's own, unless a check puts others in their place.
        """
        self.spec = spec
        self.class_names = class_names
        self.target = target
        self.precision = precision
        self.timings: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._backend: Backend | None = backend
        self._letterbox = letterbox_with
        self._paste = paste_with

    @overload
    def predict(self, images: Picture) -> Instances: ...  # type: ignore[overload-overlap] # str

    @overload
    def predict(self, images: Sequence[Picture]) -> list[Instances]: ...

    def predict(self, images: Picture | Sequence[Picture]) -> Instances | list[Instances]:
        """Find the instances in one picture, or in each of a list.

        Args:
            images: a path, a uint8 `[H, W, 3]` RGB array, or a list of them of any length: it is
                cut into batches of the engine's size.

        Returns:
            One `Instances` for one picture, a list for a list, in pixels of the picture.

        Raises:
            InputError: a picture cannot be used; nothing is returned for the others.
            PrecisionError: the engine returned numbers that are not finite.
        """
        self.timings = dict.fromkeys(STAGES, 0.0)
        if isinstance(images, list | tuple):
            groups = range(0, len(images), self.spec.batch)
            return [r for at in groups for r in self._batch(images[at : at + self.spec.batch])]
        return self._batch([images])[0]  # type: ignore[list-item]

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
        return self._open_backend().run(images)

    def place(self, image: np.ndarray) -> tuple[np.ndarray, Placement]:
        """Letterbox a picture as `predict` does: the canvas, and where the picture lies on it."""
        return (self._letterbox or letterbox)(image, self.spec)

    def describe(self) -> dict[str, Any]:
        """Return backend, version, target and precision as JSON data."""
        return {
            **self._open_backend().describe(),
            "target": None if self.target is None else self.target.name,
            "precision": None if self.precision is None else self.precision.value,
        }

    def close(self) -> None:
        """Close the engine; closing twice does nothing."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def __enter__(self) -> "Session":
        """Return the session itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _open_backend(self) -> Backend:
        if self._backend is None:
            raise UsageError("the session is closed: open another with maskrt.load.")
        return self._backend

    def _batch(self, pictures: Sequence[Picture]) -> list[Instances]:
        """Predict at most one batch of pictures."""
        with self._timed("read"):
            images = [_load(picture) for picture in pictures]
        with self._timed("letterbox"):
            placed = [self.place(image) for image in images]
            canvases = fill_batch([canvas for canvas, _ in placed], self.spec.batch)
        with self._timed("engine"):
            outputs = self.run(canvases)
        with self._timed("postprocess"):
            return [self._instances(outputs, i, place) for i, (_, place) in enumerate(placed)]

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.timings[stage] += (time.perf_counter() - started) * 1e3

    def _instances(self, outputs: dict[str, np.ndarray], index: int, place: Placement) -> Instances:
        """Cut picture `index` out of a batch's outputs, in the picture's own pixels."""
        count = int(outputs["count"][index])
        boxes = outputs["boxes"][index, :count]
        scores = outputs["scores"][index, :count]
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise PrecisionError(
                "the engine returned boxes or scores that are not finite numbers: its precision "
                "does not carry this model, so build it at fp32."
            )
        clipped = place.to_picture(boxes)
        seen = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
        source: Callable[[], np.ndarray] | None = None
        if "masks" in outputs:
            unclipped = place.to_picture(boxes[seen], clip=False)
            masks = outputs["masks"][index, :count][seen]
            source = _Paste(masks, unclipped, place.image_size, self._paste or paste_masks)
        return Instances(
            boxes=clipped[seen],
            scores=scores[seen].astype(np.float32),
            labels=outputs["labels"][index, :count][seen].astype(np.int64),
            image_size=place.image_size,
            class_names=self.class_names,
            masks_source=source,
        )


class _Paste:
    """Pastes masks when called; a class and not a closure, so that `Instances` can be pickled."""

    def __init__(
        self, masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int], paste: Paste
    ) -> None:
        self._masks, self._boxes, self._size, self._paste = masks, boxes, size, paste

    def __call__(self) -> np.ndarray:
        return self._paste(self._masks, self._boxes, self._size)


def open_session(
    bundle: Bundle | Path | str,
    target: Target | str | None = None,
    precision: Precision | str | None = None,
    *,
    threads: int | None = None,
) -> Session:
    """Open an engine of a bundle.

    Args:
        bundle: the bundle or its folder.
        target: where to run; None is the best that this machine can run.
        precision: of the engine; None is the bundle's own.
        threads: CPU threads an operator may use; None is one a physical core.

    Raises:
        BundleError: the bundle has no such engine, or a damaged one.
        UnsupportedTargetError: this machine cannot run it.
        MissingDependencyError: what runs it is not installed.
    """
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    wanted = manifest.precision if precision is None else Precision.parse(precision)
    chosen = choose_target(opened, wanted) if target is None else Target.parse(target)
    backend = open_backend(opened, chosen, wanted, threads=threads)
    return Session(
        backend,
        manifest.input,
        class_names=manifest.class_names,
        target=chosen,
        precision=wanted,
    )


def _load(picture: Picture) -> np.ndarray:
    if isinstance(picture, str | Path):
        return read_image(picture)
    return as_image(picture)
