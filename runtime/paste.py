"""Masks from the head's `[M, M]` probabilities to the picture's pixels, as their model pastes them.

Both rules (`plugins/paste_masks/schema.py`) put a ring of one zero around the mask, so it is
`S = M + 2` large, and differ in where a pixel lies on it:

    torchvision   `roi_heads.paste_masks_in_image`: widen the box about its centre by `S / M`,
                  truncate its corners toward zero, resize the mask bilinearly
                  (`align_corners=False`) to the box, last pixel included; above the threshold.
    detectron2    `layers.mask_ops.paste_masks_in_image`, and mmdetection's: sample the mask
                  bilinearly at each pixel's centre in the box as it is; from the threshold on.

Everything is float32, in the libraries' order of operations; what is left is how a CPU rounds two
products and a sum, which decides pixels within an ulp of the threshold.

How the resizing is made fast: `mask_axes.py`.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from ..core.masks import Crop, MaskPaste
from .mask_axes import Axis, interpolate, touched

__all__ = ["LazyMasks", "crop_masks", "paste_masks"]

_HALF = np.float32(0.5)
_FARTHEST = np.float32(1e38)  # so that an extent is a float32; no picture is as large
_LEAST_EXTENT = np.float32(1e-8)  # float32 has no narrower box around the centre of any pixel


def paste_masks(
    probabilities: np.ndarray,
    boxes: np.ndarray,
    size: tuple[int, int],
    threshold: float = 0.5,
    paste: MaskPaste | str = MaskPaste.TORCHVISION,
) -> np.ndarray:
    """Paste masks into full-size bool pictures.

    Args:
        probabilities: float32 `[N, M, M]`, 0 to 1.
        boxes: float32 `[N, 4]`, xyxy in pixels of the picture, finite; they may reach outside it.
        size: `(height, width)` of the picture.
        threshold: a pixel belongs to the mask if its probability is greater; of detectron2's, if it
            is as great.
        paste: whose rule; a bundle's is in its manifest.

    Returns:
        bool `[N, height, width]`.

    Raises:
        UsageError: an unknown paste.
    """
    rule = MaskPaste.parse(paste)
    limit = rule.exceeded(threshold)
    masks = np.zeros((len(probabilities), *size), bool)
    for mask, (source, rows, columns) in zip(
        masks, _resampled(probabilities, boxes, size, limit, rule), strict=True
    ):
        bottom, right = rows.start + len(rows.low), columns.start + len(columns.low)
        view = mask[rows.start : bottom, columns.start : right]
        interpolate(view, source, rows, columns, limit)
    return masks


def crop_masks(
    probabilities: np.ndarray,
    boxes: np.ndarray,
    size: tuple[int, int],
    threshold: float = 0.5,
    paste: MaskPaste | str = MaskPaste.TORCHVISION,
) -> list[Crop]:
    """Paste masks as `paste_masks` does, each into no more than its own crop."""
    rule = MaskPaste.parse(paste)
    limit = rule.exceeded(threshold)
    crops = []
    for source, rows, columns in _resampled(probabilities, boxes, size, limit, rule):
        inside = np.empty((len(rows.low), len(columns.low)), bool)
        interpolate(inside, source, rows, columns, limit)
        crops.append(Crop(rows.start, columns.start, inside))
    return crops


class LazyMasks:
    """The head's masks and their boxes, pasted when asked for (a `MaskSource`).

    A class and not a closure, so that `Instances` can be pickled.
    """

    def __init__(
        self,
        probabilities: np.ndarray,
        boxes: np.ndarray,
        size: tuple[int, int],
        paste: MaskPaste = MaskPaste.TORCHVISION,
    ) -> None:
        """Keep float32 `[N, M, M]`, xyxy `[N, 4]` in pixels of the picture, its size, the rule."""
        self._probabilities, self._boxes, self._size = probabilities, boxes, size
        self._paste = paste

    def __call__(self) -> np.ndarray:
        """Return bool `[N, height, width]`."""
        return paste_masks(self._probabilities, self._boxes, self._size, paste=self._paste)

    def crops(self) -> list[Crop]:
        """Return the N crops."""
        return crop_masks(self._probabilities, self._boxes, self._size, paste=self._paste)

    def select(self, keep: np.ndarray) -> "LazyMasks":
        """Return the masks that the index or bool array `keep` names."""
        return LazyMasks(self._probabilities[keep], self._boxes[keep], self._size, self._paste)


def _resampled(
    probabilities: np.ndarray,
    boxes: np.ndarray,
    size: tuple[int, int],
    limit: float,
    paste: MaskPaste,
) -> Iterator[tuple[np.ndarray, Axis, Axis]]:
    """Yield each mask in its ring, `[S, S]`, and the picture's rows and columns that see it."""
    if not len(probabilities):
        return
    padded = np.pad(np.asarray(probabilities, np.float32), ((0, 0), (1, 1), (1, 1)))
    side, corners = padded.shape[-1] - 2, np.asarray(boxes, np.float32)
    axis_of: Callable[..., Axis]
    if paste is MaskPaste.TORCHVISION:
        corners, axis_of = _expand(corners, (side + 2) / side), _truncated_axis
    else:
        corners, axis_of = corners.clip(-_FARTHEST, _FARTHEST), _sampled_axis
    for source, (x0, y0, x1, y1) in zip(padded, corners, strict=True):
        seen = source > limit
        rows = touched(axis_of(y0, y1, size[0], side), seen.any(axis=1))
        columns = touched(axis_of(x0, x1, size[1], side), seen.any(axis=0))
        yield source, rows, columns


def _expand(boxes: np.ndarray, scale: float) -> np.ndarray:
    """Widen boxes about their centres and truncate: int64 `[N, 4]`, last pixel included."""
    low, high = boxes[:, :2], boxes[:, 2:]
    half = (high - low) * _HALF * np.float32(scale)
    centre = (high + low) * _HALF
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.int64)


def _truncated_axis(low: np.int64, high: np.int64, limit: int, side: int) -> Axis:
    """Return the weights of torchvision's pixels `low..high` that lie in `0..limit-1`.

    Source: `area_pixel_compute_source_index` and `guard_index_and_lambda`, ATen/native/UpSample.h.
    """
    first, last, source = int(low), int(high), side + 2
    length = max(last - first + 1, 1)
    start, stop = max(first, 0), min(last + 1, limit)
    position = np.arange(start - first, stop - first, dtype=np.float32)
    scale = np.float32(source) / np.float32(length)
    at = np.maximum((position + _HALF) * scale - _HALF, np.float32(0))
    below = np.minimum(at.astype(np.intp), source - 1)
    return Axis(start, below, np.minimum(below + 1, source - 1), at - below.astype(np.float32))


def _sampled_axis(low: np.float32, high: np.float32, limit: int, side: int) -> Axis:
    """Return the weights of the pixels of `0..limit-1` whose centres see detectron2's mask.

    A mask is seen from half a cell beside its box on; a whole one is looked at, as positions are
    rounded. Source: `grid_sampler_unnormalize`, ATen/native/GridSampler.h.
    """
    extent = high - low
    if not extent > _LEAST_EXTENT:
        nothing = np.zeros(0, np.intp)
        return Axis(0, nothing, nothing, nothing.astype(np.float32))
    reach = float(extent) / side
    start = math.floor(max(low - reach - 1, 0))
    stop = math.ceil(min(high + reach + 1, limit))
    at = np.arange(start, stop, dtype=np.float32)
    at += _HALF
    at -= low
    at /= extent
    at *= np.float32(2)
    at -= np.float32(1)
    at += np.float32(1)
    at *= np.float32(side / 2)
    at -= _HALF
    seen = np.flatnonzero((at > -1) & (at < side))
    at, start = at[seen], start + (int(seen[0]) if len(seen) else 0)
    below = np.floor(at)
    first = below.astype(np.intp) + 1  # in the ring
    return Axis(start, first, first + 1, at - below)
