"""Letterboxing: a picture of any size onto the engine's canvas, and boxes back again.

With `s = min(H/h, W/w)` the picture `h x w` becomes `h' x w' = round(s h) x round(s w)`, at least
one pixel each, at the top left of the canvas `H x W`; the rest is `pad_value`. Because sizes round,
the true scales are `h'/h` and `w'/w`, one an axis, and boxes go back through those: the error of
using `s` for both would reach half a pixel of the canvas at the far edge.

Resizing is Pillow's bilinear, antialiased when it shrinks, across first and then down: in one call
Pillow 13 takes the cheaper order and older ones do not, and the two differ by a grey level. A
picture that already fits is copied bit by bit. Pixel edges map to pixel edges, so a box needs only
a division.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ..core import InputSpec, require
from .images import as_image, read_image

__all__ = ["Placement", "letterbox", "letterbox_batches", "placed_batches", "placement"]


@dataclass(frozen=True)
class Placement:
    """Where a picture lies on the canvas.

    Attributes:
        image_size: `(h, w)` of the picture, in pixels.
        canvas_size: `(h', w')` that it covers at the top left of the canvas, in pixels.
        input_size: `(H, W)` of the canvas; None where the picture covers it.
    """

    image_size: tuple[int, int]
    canvas_size: tuple[int, int]
    input_size: tuple[int, int] | None = None

    def to_picture(self, boxes_xyxy: np.ndarray, *, clip: bool = True) -> np.ndarray:
        """Map boxes from canvas pixels to picture pixels.

        Args:
            boxes_xyxy: `[N, 4]`, canvas pixels.
            clip: keep them inside the picture; a box on the filling alone becomes empty.

        Returns:
            float32 `[N, 4]`, picture pixels.
        """
        (h, w), (canvas_h, canvas_w) = self.image_size, self.canvas_size
        scale = np.array([w / canvas_w, h / canvas_h, w / canvas_w, h / canvas_h])
        mapped = boxes_xyxy.reshape(-1, 4) * scale
        if clip:
            mapped = np.clip(mapped, 0, np.array([w, h, w, h], np.float64))
        return mapped.astype(np.float32)


def letterbox(image: np.ndarray, spec: InputSpec) -> tuple[np.ndarray, Placement]:
    """Place a picture on the canvas of `spec`.

    Args:
        image: uint8 `[h, w, 3]`.
        spec: the canvas: height, width, filling.

    Returns:
        The canvas, uint8 `[H, W, 3]`, and where the picture lies on it.
    """
    place = placement(image.shape[0], image.shape[1], spec)
    canvas_h, canvas_w = place.canvas_size
    canvas = np.empty((spec.height, spec.width, 3), np.uint8)
    canvas[canvas_h:] = spec.pad_value
    canvas[:canvas_h, canvas_w:] = spec.pad_value
    canvas[:canvas_h, :canvas_w] = _resize(image, canvas_h, canvas_w)
    return canvas, place


def placement(height: int, width: int, spec: InputSpec) -> Placement:
    """Return where a picture of `height x width` pixels comes to lie on the canvas of `spec`."""
    scale = spec.scale_for(height, width)
    canvas_height = min(max(round(height * scale), 1), spec.height)
    canvas_width = min(max(round(width * scale), 1), spec.width)
    return Placement((height, width), (canvas_height, canvas_width), (spec.height, spec.width))


def letterbox_batches(
    pictures: Iterable[Path | str | np.ndarray], spec: InputSpec
) -> Iterator[tuple[np.ndarray, int]]:
    """Read, letterbox and batch pictures one batch at a time, in constant memory.

    The last batch is filled up by repeating its last picture, not with blank canvases, so that
    statistics taken from the batches see nothing but pictures.

    Args:
        pictures: files or arrays.
        spec: batch size and canvas.

    Yields:
        uint8 `[B, H, W, 3]`, and how many of the B are not repetitions.
    """
    return ((batch, len(places)) for batch, places in placed_batches(pictures, spec))


def placed_batches(
    pictures: Iterable[Path | str | np.ndarray], spec: InputSpec
) -> Iterator[tuple[np.ndarray, list[Placement]]]:
    """Do as `letterbox_batches`, and say where each picture lies that is not a repetition."""
    source = iter(pictures)
    while group := list(islice(source, spec.batch)):
        images = (as_image(p) if isinstance(p, np.ndarray) else read_image(p) for p in group)
        canvases, places = zip(*(letterbox(image, spec) for image in images), strict=True)
        yield fill_batch(list(canvases), spec.batch), list(places)


def fill_batch(canvases: list[np.ndarray], batch: int) -> np.ndarray:
    """Stack at most `batch` canvases to uint8 `[batch, H, W, 3]`, repeating the last one."""
    missing = batch - len(canvases)
    return np.stack(canvases + canvases[-1:] * missing)


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    pillow = require("PIL.Image", "resize pictures")
    across = pillow.fromarray(image).resize((width, image.shape[0]), pillow.Resampling.BILINEAR)
    return np.asarray(across.resize((width, height), pillow.Resampling.BILINEAR))
