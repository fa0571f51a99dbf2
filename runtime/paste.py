"""Masks from the head's `[M, M]` probabilities to the picture's pixels, as torchvision pastes them.

The rule (torchvision `roi_heads.paste_masks_in_image`): put a ring of one zero around the mask, so
it is `S = M + 2` large; widen the box about its centre by `S / M`; truncate its corners toward
zero; resize the mask bilinearly (`align_corners=False`) to the box, last pixel included; compare
with the threshold. Everything is float32, in torchvision's order of operations; what is left is how
a CPU rounds two products and a sum, which decides pixels within an ulp of the threshold.

How the resizing is made fast: `mask_axes.py`.
"""

from collections.abc import Iterator

import numpy as np

from ..core.masks import Crop
from .mask_axes import Axis, interpolate, touched

__all__ = ["LazyMasks", "crop_masks", "paste_masks"]

_HALF = np.float32(0.5)


def paste_masks(
    probabilities: np.ndarray,
    boxes: np.ndarray,
    size: tuple[int, int],
    threshold: float = 0.5,
) -> np.ndarray:
    """Paste masks into full-size bool pictures.

    Args:
        probabilities: float32 `[N, M, M]`, 0 to 1.
        boxes: float32 `[N, 4]`, xyxy in pixels of the picture, finite; they may reach outside it.
        size: `(height, width)` of the picture.
        threshold: a pixel belongs to the mask if its probability is greater.

    Returns:
        bool `[N, height, width]`.
    """
    masks = np.zeros((len(probabilities), *size), bool)
    for mask, (source, rows, columns) in zip(
        masks, _resampled(probabilities, boxes, size, threshold), strict=True
    ):
        bottom, right = rows.start + len(rows.low), columns.start + len(columns.low)
        view = mask[rows.start : bottom, columns.start : right]
        interpolate(view, source, rows, columns, threshold)
    return masks


def crop_masks(
    probabilities: np.ndarray,
    boxes: np.ndarray,
    size: tuple[int, int],
    threshold: float = 0.5,
) -> list[Crop]:
    """Paste masks as `paste_masks` does, each into no more than its own crop."""
    crops = []
    for source, rows, columns in _resampled(probabilities, boxes, size, threshold):
        inside = np.empty((len(rows.low), len(columns.low)), bool)
        interpolate(inside, source, rows, columns, threshold)
        crops.append(Crop(rows.start, columns.start, inside))
    return crops


class LazyMasks:
    """The head's masks and their boxes, pasted when asked for (a `MaskSource`).

    A class and not a closure, so that `Instances` can be pickled.
    """

    def __init__(self, probabilities: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> None:
        """Keep float32 `[N, M, M]`, xyxy `[N, 4]` in pixels of the picture, and its size."""
        self._probabilities, self._boxes, self._size = probabilities, boxes, size

    def __call__(self) -> np.ndarray:
        """Return bool `[N, height, width]`."""
        return paste_masks(self._probabilities, self._boxes, self._size)

    def crops(self) -> list[Crop]:
        """Return the N crops."""
        return crop_masks(self._probabilities, self._boxes, self._size)

    def select(self, keep: np.ndarray) -> "LazyMasks":
        """Return the masks that the index or bool array `keep` names."""
        return LazyMasks(self._probabilities[keep], self._boxes[keep], self._size)


def _resampled(
    probabilities: np.ndarray, boxes: np.ndarray, size: tuple[int, int], threshold: float
) -> Iterator[tuple[np.ndarray, Axis, Axis]]:
    """Yield each mask in its ring, `[S, S]`, and the picture's rows and columns that see it."""
    if not len(probabilities):
        return
    padded = np.pad(np.asarray(probabilities, np.float32), ((0, 0), (1, 1), (1, 1)))
    corners = _expand(np.asarray(boxes, np.float32), padded.shape[-1] / (padded.shape[-1] - 2))
    for source, (x0, y0, x1, y1) in zip(padded, corners.tolist(), strict=True):
        seen = source > threshold
        rows = touched(_axis(y0, y1, size[0], len(source)), seen.any(axis=1))
        columns = touched(_axis(x0, x1, size[1], len(source)), seen.any(axis=0))
        yield source, rows, columns


def _expand(boxes: np.ndarray, scale: float) -> np.ndarray:
    """Widen boxes about their centres and truncate: int64 `[N, 4]`, last pixel included."""
    low, high = boxes[:, :2], boxes[:, 2:]
    half = (high - low) * _HALF * np.float32(scale)
    centre = (high + low) * _HALF
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.int64)


def _axis(first: int, last: int, limit: int, source: int) -> Axis:
    """Return the weights of the output pixels of `first..last` that lie in `0..limit-1`.

    Source: `area_pixel_compute_source_index` and `guard_index_and_lambda`, ATen/native/UpSample.h.
    """
    length = max(last - first + 1, 1)
    start, stop = max(first, 0), min(last + 1, limit)
    position = np.arange(start - first, stop - first, dtype=np.float32)
    scale = np.float32(source) / np.float32(length)
    at = np.maximum((position + _HALF) * scale - _HALF, np.float32(0))
    low = np.minimum(at.astype(np.intp), source - 1)
    return Axis(start, low, np.minimum(low + 1, source - 1), at - low.astype(np.float32))
