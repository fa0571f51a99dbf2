"""The contract of every backend: canonical input in, canonical outputs out.

`run` takes `images: uint8[B, H, W, 3]` and returns, as arrays that the caller may keep:

| output | type and shape | |
|---|---|---|
| `boxes` | float32 `[B, D, 4]` | xyxy, canvas pixels |
| `scores` | float32 `[B, D]` | descending |
| `labels` | int32 `[B, D]` | |
| `masks` | float32 `[B, D, h, w]` | probabilities over box or canvas; absent for a box-only model |
| `count` | int32 `[B]` | how many of the D are detections; the rest is zero |

What masks are spread over, and so their `h` and `w`, is the manifest's `mask_frame`
(`core/masks.py`): 28 x 28 over the box, or a quarter of the canvas. How those over the box are
pasted is its `mask_paste`.

A backend is opened by its constructor, closed by `close` or by leaving its `with` block, and used
by one thread at a time, any thread, unless it says that it is `concurrent`.
"""

import abc
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...core import InputSpec
from ...core.closes import Closes

if TYPE_CHECKING:
    from ..cuda import FrameSlots

__all__ = ["Backend"]


class Backend(Closes):
    """Executes one engine.

    Attributes:
        concurrent: `run` may be called by several threads at once.
        one_frame: the device has memory for one frame in flight.
    """

    concurrent: ClassVar[bool] = False
    one_frame: bool = False

    @abc.abstractmethod
    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs for one batch, uint8 `[B, H, W, 3]`."""

    def open_frames(self, spec: InputSpec, slots: int) -> "FrameSlots | None":
        """Return what runs whole frames on the device, in memory that the caller closes.

        Args:
            spec: of the engine's input.
            slots: frames in flight at most.

        Returns:
            None where there is no device, or where it was not asked to do so.
        """
        return None

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what executes the engine as JSON data: `backend`, `version`, and its settings."""
