"""Masks from probabilities over the canvas to the picture's pixels.

A picture's pixel centre `y + 1/2` lies at `(y + 1/2) h'/h` on the canvas (`letterbox.py`). Elements
are `c` canvas pixels apart, and so it lies at element

    at = (y + 1/2) · h'/h / c - 1/2 - shift,     cut to the first … the last element

    frame         c         shift
    CANVAS        4         0         interpolate(scale_factor=4, align_corners=False): SOLO
    CANVAS_LATE   4         1/8       AdelaiDet's aligned_bilinear: CondInst
    CANVAS_EVEN   H / rows  0         interpolate(size=(H, W), align_corners=False): YOLACT
    CANVAS_BOXED  H / rows  0         the same: YOLO

with `(y + 1/2) h'/h + top` for the place on the canvas of a picture that does not lie at its top,
in one bilinear step straight to the picture, compared with the threshold. Where picture and canvas
have one size this is the function on the right. No box is involved: a mask ends where its
probabilities do; but with CANVAS_BOXED no pixel y is inside unless `y1 <= y < y2`, and likewise x,
of its box in the picture.
"""

import math
from collections.abc import Iterator

import numpy as np

from ..core.masks import Crop, MaskFrame
from .letterbox import Placement
from .mask_axes import Axis, interpolate, touched

__all__ = ["CanvasMasks", "crop_canvas_masks", "paste_canvas_masks"]

_STRIDE = 4  # canvas pixels an element; see core.masks.MaskFrame
_HALF = np.float32(0.5)
_LATE = np.float32(0.5 / _STRIDE)


def paste_canvas_masks(
    probabilities: np.ndarray,
    place: Placement,
    threshold: float = 0.5,
    *,
    frame: MaskFrame = MaskFrame.CANVAS,
    boxes: np.ndarray | None = None,
) -> np.ndarray:
    """Resample masks into full-size bool pictures.

    Args:
        probabilities: float32 `[N, rows, columns]`, 0 to 1.
        place: where the picture lay on the canvas.
        threshold: a pixel belongs to the mask if its probability is greater.
        frame: how the elements lie on the canvas; one of the CANVAS kinds.
        boxes: `[N, 4]`, xyxy in pixels of the picture, for CANVAS_BOXED.

    Returns:
        bool `[N, h, w]`, pixels of the picture.
    """
    masks = np.zeros((len(probabilities), *place.image_size), bool)
    crops = _crops(probabilities, place, threshold, frame, boxes)
    for mask, crop in zip(masks, crops, strict=True):
        height, width = crop.inside.shape
        mask[crop.top : crop.top + height, crop.left : crop.left + width] = crop.inside
    return masks


def crop_canvas_masks(
    probabilities: np.ndarray,
    place: Placement,
    threshold: float = 0.5,
    *,
    frame: MaskFrame = MaskFrame.CANVAS,
    boxes: np.ndarray | None = None,
) -> list[Crop]:
    """Resample masks as `paste_canvas_masks` does, each into no more than its own crop."""
    return list(_crops(probabilities, place, threshold, frame, boxes))


class CanvasMasks:
    """Probabilities over the canvas, resampled when asked for (a `MaskSource`)."""

    def __init__(
        self,
        probabilities: np.ndarray,
        place: Placement,
        frame: MaskFrame = MaskFrame.CANVAS,
        boxes: np.ndarray | None = None,
    ) -> None:
        """Keep float32 `[N, rows, columns]`, and how they and the picture lay on the canvas.

        `boxes [N, 4]`, pixels of the picture, are for CANVAS_BOXED.
        """
        self._probabilities, self._place, self._frame = probabilities, place, frame
        self._boxes = boxes

    def __call__(self) -> np.ndarray:
        """Return bool `[N, height, width]`."""
        return paste_canvas_masks(
            self._probabilities, self._place, frame=self._frame, boxes=self._boxes
        )

    def crops(self) -> list[Crop]:
        """Return the N crops."""
        return crop_canvas_masks(
            self._probabilities, self._place, frame=self._frame, boxes=self._boxes
        )

    def select(self, keep: np.ndarray) -> "CanvasMasks":
        """Return the masks that the index or bool array `keep` names."""
        boxes = None if self._boxes is None else self._boxes[keep]
        return CanvasMasks(self._probabilities[keep], self._place, self._frame, boxes)


def _crops(
    probabilities: np.ndarray,
    place: Placement,
    threshold: float,
    frame: MaskFrame,
    boxes: np.ndarray | None = None,
) -> Iterator[Crop]:
    """Yield each mask's crop; only the elements that it sees are read."""
    axes = tuple(_axis(place, axis, probabilities.shape[1 + axis], frame) for axis in (0, 1))
    for index, source in enumerate(probabilities):
        down, across = axes
        if frame is MaskFrame.CANVAS_BOXED:
            assert boxes is not None, "CANVAS_BOXED is given boxes"
            x1, y1, x2, y2 = boxes[index]
            down, across = _within(down, y1, y2), _within(across, x1, x2)
            seen = _seen_within(source, down, across, threshold)
        else:
            seen = np.asarray(source > threshold)
        rows = touched(down, np.asarray(seen.any(axis=1)))
        columns = touched(across, np.asarray(seen.any(axis=0)))
        inside = np.empty((len(rows.low), len(columns.low)), bool)
        if inside.size:
            first, last = int(rows.low[0]), int(rows.high[-1])
            rows_inside = rows._replace(low=rows.low - first, high=rows.high - first)
            part = np.asarray(source[first : last + 1], np.float32)
            interpolate(inside, part, rows_inside, columns, threshold)
        yield Crop(rows.start, columns.start, inside)


def _axis(place: Placement, axis: int, elements: int, frame: MaskFrame) -> Axis:
    """Return the weights of a picture's pixels along one side, of `elements` over the canvas."""
    pixels, covered = place.image_size[axis], place.canvas_size[axis]
    scale, apart = np.float32(covered / (pixels * _STRIDE)), float(_STRIDE)
    if frame.is_even:
        canvas = (place.input_size or place.canvas_size)[axis]
        scale = np.float32(covered * elements / (pixels * canvas))
        apart = canvas / elements
    at = (np.arange(pixels, dtype=np.float32) + _HALF) * scale - _HALF
    if frame is MaskFrame.CANVAS_LATE:
        at -= _LATE
    if place.offset[axis]:
        at += np.float32(place.offset[axis] / apart)
    at = np.clip(at, np.float32(0), np.float32(elements - 1))
    low = at.astype(np.intp)
    return Axis(0, low, np.minimum(low + 1, elements - 1), at - low.astype(np.float32))


def _seen_within(source: np.ndarray, down: Axis, across: Axis, threshold: float) -> np.ndarray:
    """Return which elements are above the threshold, of those that some pixel sees."""
    seen = np.zeros(source.shape, bool)
    if len(down.low) and len(across.low):
        rows = slice(down.low[0], down.high[-1] + 1)
        columns = slice(across.low[0], across.high[-1] + 1)
        seen[rows, columns] = source[rows, columns] > threshold
    return seen


def _within(axis: Axis, low: float, high: float) -> Axis:
    """Keep the pixels whose numbers are at least `low` and below `high`."""
    length = len(axis.low)
    first, stop = (min(max(math.ceil(edge), 0), length) for edge in (low, high))
    span = slice(first, max(stop, first))
    return Axis(axis.start + first, axis.low[span], axis.high[span], axis.weight[span])
