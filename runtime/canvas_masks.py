"""Masks from quarter-resolution canvas probabilities to the picture's pixels.

Element (i, j) of `[ceil(H/4), ceil(W/4)]` is the probability at the centre of its 4 x 4 canvas
pixels. A picture's pixel centre `y + 1/2` lies at `(y + 1/2) h'/h` on the canvas (`letterbox.py`),
and so at element

    at = (y + 1/2) · h'/h / 4 - 1/2,     cut to 0 … ceil(H/4) - 1

in one bilinear step straight to the picture, compared with the threshold. Where picture and canvas
have one size this is `interpolate(scale_factor=4, align_corners=False)`, which SOLO, YOLACT and
CondInst use. No box is involved: a mask ends where its probabilities do.
"""

from collections.abc import Iterator

import numpy as np

from ..core.masks import Crop
from .letterbox import Placement
from .mask_axes import Axis, interpolate, touched

__all__ = ["CanvasMasks", "crop_canvas_masks", "paste_canvas_masks"]

_STRIDE = 4  # canvas pixels an element; see core.masks.MaskFrame
_HALF = np.float32(0.5)


def paste_canvas_masks(
    probabilities: np.ndarray, place: Placement, threshold: float = 0.5
) -> np.ndarray:
    """Resample masks into full-size bool pictures.

    Args:
        probabilities: float32 `[N, ceil(H/4), ceil(W/4)]`, 0 to 1.
        place: where the picture lay on the canvas.
        threshold: a pixel belongs to the mask if its probability is greater.

    Returns:
        bool `[N, h, w]`, pixels of the picture.
    """
    masks = np.zeros((len(probabilities), *place.image_size), bool)
    for mask, crop in zip(masks, _crops(probabilities, place, threshold), strict=True):
        height, width = crop.inside.shape
        mask[crop.top : crop.top + height, crop.left : crop.left + width] = crop.inside
    return masks


def crop_canvas_masks(
    probabilities: np.ndarray, place: Placement, threshold: float = 0.5
) -> list[Crop]:
    """Resample masks as `paste_canvas_masks` does, each into no more than its own crop."""
    return list(_crops(probabilities, place, threshold))


class CanvasMasks:
    """Probabilities over the canvas, resampled when asked for (a `MaskSource`)."""

    def __init__(self, probabilities: np.ndarray, place: Placement) -> None:
        """Keep float32 `[N, ceil(H/4), ceil(W/4)]`, and where the picture lay on the canvas."""
        self._probabilities, self._place = probabilities, place

    def __call__(self) -> np.ndarray:
        """Return bool `[N, height, width]`."""
        return paste_canvas_masks(self._probabilities, self._place)

    def crops(self) -> list[Crop]:
        """Return the N crops."""
        return crop_canvas_masks(self._probabilities, self._place)

    def select(self, keep: np.ndarray) -> "CanvasMasks":
        """Return the masks that the index or bool array `keep` names."""
        return CanvasMasks(self._probabilities[keep], self._place)


def _crops(probabilities: np.ndarray, place: Placement, threshold: float) -> Iterator[Crop]:
    """Yield each mask's crop; only the elements that it sees are read."""
    height, width = probabilities.shape[1:]
    down = _axis(place.image_size[0], place.canvas_size[0], height)
    across = _axis(place.image_size[1], place.canvas_size[1], width)
    for source in probabilities:
        seen = source > threshold
        rows, columns = touched(down, seen.any(axis=1)), touched(across, seen.any(axis=0))
        inside = np.empty((len(rows.low), len(columns.low)), bool)
        if inside.size:
            first, last = int(rows.low[0]), int(rows.high[-1])
            rows_inside = rows._replace(low=rows.low - first, high=rows.high - first)
            part = np.asarray(source[first : last + 1], np.float32)
            interpolate(inside, part, rows_inside, columns, threshold)
        yield Crop(rows.start, columns.start, inside)


def _axis(pixels: int, canvas: int, elements: int) -> Axis:
    """Return the weights of a picture's pixels along one side, of `elements` over the canvas."""
    scale = np.float32(canvas / (pixels * _STRIDE))
    at = (np.arange(pixels, dtype=np.float32) + _HALF) * scale - _HALF
    at = np.clip(at, np.float32(0), np.float32(elements - 1))
    low = at.astype(np.intp)
    return Axis(0, low, np.minimum(low + 1, elements - 1), at - low.astype(np.float32))
