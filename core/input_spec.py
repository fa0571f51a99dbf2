"""What a bundle's graph takes in: batch, height and width of letterboxed uint8 RGB pictures.

Letterboxing keeps the aspect ratio: a picture of `h x w` is scaled by `min(H/h, W/w)`, placed at
the top left corner, and the rest is filled with `pad_value`. That is where torchvision and
detectron2 place a picture too, so boxes only need to be divided by the scale to come back. Other
families centre it, or squash it to the canvas (`Placing`), and resize without antialiasing
(`Resampling`); a spec says so.

The canvas says by its filling where its picture ends (`picture_sizes`): graphs made from PyTorch
models read it there, and clip proposals and boxes to the picture, as the originals do.
"""

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import numpy as np

from .bounds import BATCH, SIDE
from .errors import UsageError

__all__ = ["FILLING", "InputSpec", "Placing", "Resampling"]

# The initializer of a canonical graph that holds `pad_value`, float32 [3]: what the graph
# compares pixels with. Graphs of ONNX files have none, and take the canvas for the picture.
FILLING = "letterboxed.filling"


class Placing(Enum):
    """Where a picture comes to lie on the canvas.

    TOP_LEFT: letterboxed, at the top left corner (torchvision, detectron2).
    CENTRE: letterboxed, in the middle; of an odd filling the smaller half lies before it (YOLO).
    SQUASH: over the whole canvas, whatever becomes of its aspect ratio (DETR).
    """

    TOP_LEFT = "top_left"
    CENTRE = "centre"
    SQUASH = "squash"


class Resampling(Enum):
    """How a picture is resized; both are bilinear.

    ANTIALIASED: the triangle widens as the picture shrinks (Pillow).
    BILINEAR: of the four nearest pixels, however small the picture becomes (OpenCV's INTER_LINEAR,
        PyTorch without antialiasing).
    """

    ANTIALIASED = "antialiased"
    BILINEAR = "bilinear"


@dataclass(frozen=True)
class InputSpec:
    """Shape and filling of the input `images: uint8[batch, height, width, 3]` (RGB).

    Attributes:
        height: pixels, 32 to 8192.
        width: pixels, 32 to 8192.
        batch: pictures a call, at least 1.
        pad_value: RGB filling of the letterbox, 0 to 255; the mean colour of the model's training
            normalisation, so that the filling is close to zero after it.
        placing: where a picture lies on the canvas.
        resampling: how it is resized.
    """

    height: int
    width: int
    batch: int = 1
    pad_value: tuple[int, int, int] = (124, 116, 104)
    placing: Placing = Placing.TOP_LEFT
    resampling: Resampling = Resampling.ANTIALIASED

    def __post_init__(self) -> None:
        """Refuse sizes that no detector takes."""
        for name in ("height", "width"):
            value = getattr(self, name)
            if not isinstance(value, int) or not SIDE.least <= value <= SIDE.most:
                raise UsageError(
                    f"input {name} is {value!r}, and must be an integer of {SIDE.least} to "
                    f"{SIDE.most} pixels."
                )
        if not isinstance(self.batch, int) or not BATCH.least <= self.batch <= BATCH.most:
            raise UsageError(
                f"batch is {self.batch!r}, and must be an integer of {BATCH.least} to {BATCH.most}."
            )
        if not all(isinstance(value, int) and 0 <= value <= 255 for value in self.pad_value):
            raise UsageError(
                f"pad_value is {self.pad_value!r}, and must be three integers of 0 to 255."
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`(batch, height, width, 3)`."""
        return (self.batch, self.height, self.width, 3)

    @property
    def is_plain(self) -> bool:
        """Whether pictures are placed and resized as every maskrt since the first does."""
        return self.placing is Placing.TOP_LEFT and self.resampling is Resampling.ANTIALIASED

    def area_of(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return `(top, left, height, width)` on the canvas of a picture of `height x width`."""
        if self.placing is Placing.SQUASH:
            return 0, 0, self.height, self.width
        scale = self.scale_for(height, width)
        rows = min(max(round(height * scale), 1), self.height)
        columns = min(max(round(width * scale), 1), self.width)
        if self.placing is Placing.TOP_LEFT:
            return 0, 0, rows, columns
        return (self.height - rows) // 2, (self.width - columns) // 2, rows, columns

    def scale_for(self, height: int, width: int) -> float:
        """Input pixels per picture pixel for a picture of `height x width` pixels."""
        return min(self.height / height, self.width / width)

    def picture_sizes(self, images: np.ndarray) -> list[tuple[int, int]]:
        """Return `(height, width)` of the picture on each canvas, read from the canvas.

        A picture ends with the last row and the last column in which any pixel differs from
        `pad_value`; where none does, it is as large as the canvas.

        Args:
            images: uint8 `[B, H, W, 3]`.
        """
        other = (images != np.array(self.pad_value, images.dtype)).any(axis=3)
        return [(_end(canvas.any(axis=1)), _end(canvas.any(axis=0))) for canvas in other]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `from_json` is its inverse.

        `placing` and `resampling` are in it where they are not those of every older bundle.
        """
        data = {**asdict(self), "pad_value": list(self.pad_value), "layout": "uint8 NHWC RGB"}
        del data["placing"], data["resampling"]
        if self.is_plain:
            return data
        return {**data, "placing": self.placing.value, "resampling": self.resampling.value}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "InputSpec":
        """Return the spec that `to_json` wrote."""
        red, green, blue = data["pad_value"]
        return cls(
            data["height"],
            data["width"],
            data["batch"],
            (red, green, blue),
            Placing(data.get("placing", Placing.TOP_LEFT.value)),
            Resampling(data.get("resampling", Resampling.ANTIALIASED.value)),
        )


def _end(filled: np.ndarray) -> int:
    """Return how many of `filled` there are up to the last that is true; all if none is."""
    places = np.flatnonzero(filled)
    return int(places[-1]) + 1 if len(places) else len(filled)
