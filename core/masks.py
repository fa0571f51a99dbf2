"""Masks as crops: what a mask covers, and where it lies, without the picture around it.

A mask of a 1080 x 1920 picture is two million pixels, of which an instance has a few thousand.
Everything that writes masks down (RLE, polygons, drawings) needs those alone.
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from .errors import UsageError

__all__ = ["Crop", "MaskFrame", "MaskPaste", "MaskSource", "crops_of"]


class MaskFrame(Enum):
    """What a model's mask probabilities are spread over.

    BOX: `[B, D, M, M]`, over each detection's box (Mask R-CNN).
    CANVAS: `[B, D, ceil(H / 4), ceil(W / 4)]`, over the whole canvas: element (i, j) is the
        probability at pixel edges `4 i … 4 i + 4` and `4 j … 4 j + 4` (SOLO, CondInst).
    CANVAS_LATE: the same, and each probability belongs half a pixel right of and below its
        element's centre, to `4 j + 2.5` (CondInst as AdelaiDet and mmdetection train it).
    CANVAS_EVEN: `[B, D, h, w]`, which divide the canvas evenly, whatever their number: element j
        lies at pixel edges `j W / w … (j + 1) W / w` (YOLACT).
    CANVAS_BOXED: the same, and a pixel of the picture whose number lies outside of its detection's
        box is outside, whatever its probability (YOLO).
    """

    BOX = "box"
    CANVAS = "canvas"
    CANVAS_LATE = "canvas_late"
    CANVAS_EVEN = "canvas_even"
    CANVAS_BOXED = "canvas_boxed"

    @property
    def is_even(self) -> bool:
        """Whether elements divide the canvas evenly, whatever their number."""
        return self in (MaskFrame.CANVAS_EVEN, MaskFrame.CANVAS_BOXED)


class MaskPaste(Enum):
    """How a mask over its box comes into the picture; `plugins/paste_masks/schema.py` has both.

    TORCHVISION: the widened box is truncated to whole pixels, and the mask resized to those; a
        pixel is inside above the threshold.
    DETECTRON2: the mask is sampled at pixel centres in the box as it is; a pixel is inside from the
        threshold on. mmdetection pastes so, too.
    """

    TORCHVISION = "torchvision"
    DETECTRON2 = "detectron2"

    def __str__(self) -> str:
        """Return the word that stands in a manifest."""
        return self.value

    @classmethod
    def parse(cls, value: "MaskPaste | str") -> "MaskPaste":
        """Return the paste that `value` names.

        Raises:
            UsageError: there is none of that name.
        """
        try:
            return cls(value)
        except ValueError:
            known = " or ".join(paste.value for paste in cls)
            raise UsageError(f"paste is {value!r}, and must be {known}.") from None

    def exceeded(self, threshold: float) -> float:
        """Return the float32 that a pixel's value, a float32, has to exceed at `threshold`.

        To reach a threshold is to exceed the float32 below it; 0 is never inside.
        """
        if self is MaskPaste.TORCHVISION:
            return threshold
        return max(float(np.nextafter(np.float32(threshold), np.float32(-1))), 0.0)


class Crop(NamedTuple):
    """A mask is `inside` at rows `top…` and columns `left…` of the picture, and false elsewhere.

    Attributes:
        top: row of the crop's first row.
        left: column of its first column.
        inside: bool `[h, w]`; empty for an empty mask.
    """

    top: int
    left: int
    inside: np.ndarray


@runtime_checkable
class MaskSource(Protocol):
    """Masks that are made when they are asked for, all of them or their crops."""

    def __call__(self) -> np.ndarray:
        """Return bool `[N, height, width]`."""
        ...

    def crops(self) -> list[Crop]:
        """Return the N crops."""
        ...

    def select(self, keep: np.ndarray) -> "MaskSource":
        """Return the masks that the index or bool array `keep` names."""
        ...


def crops_of(masks: np.ndarray | Sequence[np.ndarray]) -> list[Crop]:
    """Return the crops of full-size masks, bool `[N, height, width]`."""
    return [_crop_of(np.asarray(mask, bool)) for mask in masks]


def _crop_of(mask: np.ndarray) -> Crop:
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return Crop(0, 0, mask[:0, :0])
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    left, right = int(columns[0]), int(columns[-1]) + 1
    return Crop(top, left, mask[top:bottom, left:right])
