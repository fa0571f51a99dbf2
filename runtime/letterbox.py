"""Letterboxing: a picture of any size onto the engine's canvas, and boxes back again.

With `s = min(H/h, W/w)` the picture `h x w` becomes `h' x w' = round(s h) x round(s w)`, at least
one pixel each, at the top left of the canvas `H x W`; the rest is `pad_value`. Because sizes round,
the true scales are `h'/h` and `w'/w`, one an axis, and boxes go back through those: the error of
using `s` for both would reach half a pixel of the canvas at the far edge. A spec may also place it
in the middle, or squash it to the whole canvas (`InputSpec.placing`).

Resizing is Pillow's bilinear, antialiased when it shrinks, across first and then down: in one call
Pillow 13 takes the cheaper order and older ones do not, and the two differ by a grey level. A
picture that already fits is copied bit by bit. Pixel edges map to pixel edges, so a box needs only
a division.

Without antialiasing (`Resampling.BILINEAR`) a pixel is made of its four nearest in fixed point of
11 bits an axis, as in OpenCV's plain code; OpenCV's vector code may differ by a grey level.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ..core import InputSpec, Resampling, require
from .images import as_image, read_image

__all__ = ["Placement", "letterbox", "letterbox_batches", "placed_batches", "placement"]

_FRACTION_BITS = 11  # of a weight, as OpenCV's; 8 + 2 x 11 bits fit into 32


@dataclass(frozen=True)
class Placement:
    """Where a picture lies on the canvas.

    Attributes:
        image_size: `(h, w)` of the picture, in pixels.
        canvas_size: `(h', w')` that it covers of the canvas, in pixels.
        input_size: `(H, W)` of the canvas; None where the picture covers it.
        offset: `(top, left)` of its first pixel on the canvas.
    """

    image_size: tuple[int, int]
    canvas_size: tuple[int, int]
    input_size: tuple[int, int] | None = None
    offset: tuple[int, int] = (0, 0)

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
        top, left = self.offset
        boxes = boxes_xyxy.reshape(-1, 4)
        if top or left:
            boxes = boxes - np.array([left, top, left, top], np.float64)
        mapped = boxes * scale
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
    (canvas_h, canvas_w), (top, left) = place.canvas_size, place.offset
    canvas = np.empty((spec.height, spec.width, 3), np.uint8)
    bottom, right = top + canvas_h, left + canvas_w
    canvas[:top] = canvas[bottom:] = spec.pad_value
    canvas[top:bottom, :left] = canvas[top:bottom, right:] = spec.pad_value
    resized = _RESIZES[spec.resampling](image, canvas_h, canvas_w)
    canvas[top:bottom, left:right] = resized
    return canvas, place


def placement(height: int, width: int, spec: InputSpec) -> Placement:
    """Return where a picture of `height x width` pixels comes to lie on the canvas of `spec`."""
    top, left, rows, columns = spec.area_of(height, width)
    size = (spec.height, spec.width)
    return Placement((height, width), (rows, columns), size, (top, left))


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


def _resize_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize by the four nearest pixels, whose centres map to centres; rounds halves up."""
    if image.shape[:2] == (height, width):
        return image
    (top, bottom, down), (left, right, across) = (
        _nearest_two(image.shape[axis], size) for axis, size in enumerate((height, width))
    )
    one, columns = 1 << _FRACTION_BITS, across[:, None]
    rows = []
    for row in (top, bottom):
        picked = image[row]
        near, far = (picked[:, at].astype(np.int32) for at in (left, right))
        rows.append(near * (one - columns) + far * columns)
    weight = down[:, None, None]
    total = rows[0] * (one - weight) + rows[1] * weight
    half = 1 << (2 * _FRACTION_BITS - 1)
    found: np.ndarray = ((total + half) >> (2 * _FRACTION_BITS)).astype(np.uint8)
    return found


def _nearest_two(source: int, outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two source pixels of each output pixel, and the second's weight of 2**11."""
    at = (np.arange(outputs) + 0.5) * (source / outputs) - 0.5
    at = np.clip(at, 0, source - 1)
    first = np.minimum(at.astype(np.intp), max(source - 2, 0))
    weight = np.rint((at - first) * (1 << _FRACTION_BITS)).astype(np.int32)
    return first, np.minimum(first + 1, source - 1), weight


_RESIZES = {Resampling.ANTIALIASED: _resize, Resampling.BILINEAR: _resize_bilinear}
