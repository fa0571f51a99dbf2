"""Preprocess: a picture of any size letterboxed onto the canvas and normalised.

With `s = min(height / H, width / W)`, the picture becomes `h' x w' = round(s H) x round(s W)`, in
which halves go to even, at least 1 and at most the canvas, at the top left. It is resized as
Pillow's BILINEAR does, first across, then down, each pass rounding to uint8. With r = W / w' and
R = max(r, 1), column x of a pass is the mean of source columns i weighed by

    max(0, 1 - |i + 1/2 - (x + 1/2) r| / R)      (antialiased: the triangle widens as it shrinks),

computed in double, normalised to a sum of 1, and rounded to 22-bit fixed point. A pass that does
not change the size copies. What the picture does not cover is `pad_value`. Then

    tensor[0, c] = (pixel[c] - mean[c]) / std[c]

in float32, a subtraction and a division, rounded to FLOAT16 if `half`.

`pad_value`, `mean` and `std` are in the picture's units, 0 to 255, in its order of channels (RGB).

The order of the passes decides roundings. Pillow goes across first up to version 12, as here; since
13 it goes down first if the height shrinks by more than twice as many pixels as the width does. One
`resize` for each direction is the same in every version, and the same as this.

Source: Pillow, src/libImaging/Resample.c; ../../runtime/letterbox.py is the same on the CPU.
"""

from onnx import TensorProto

from ..operator import Attribute, Port, Schema

__all__ = ["SCHEMA"]

_LARGEST = 8192


def _is_extent(value: int) -> bool:
    return 1 <= value <= _LARGEST


def _are_colours(values: tuple[float, ...]) -> bool:
    return len(values) == 3 and all(0 <= value <= 255 for value in values)


def _are_deviations(values: tuple[float, ...]) -> bool:
    return len(values) == 3 and all(0 < value < float("inf") for value in values)


_COLOURS = "three numbers of 0 to 255"

SCHEMA = Schema(
    name="Preprocess",
    version=1,
    meaning="a picture of any size letterboxed onto the canvas and normalised",
    inputs=(Port("image", ("H", "W", 3), (TensorProto.UINT8,)),),
    attributes=(
        Attribute("height", int, "of the canvas, pixels", _is_extent, f"1 to {_LARGEST}"),
        Attribute("width", int, "of the canvas, pixels", _is_extent, f"1 to {_LARGEST}"),
        Attribute("pad_value", tuple, "filling", _are_colours, _COLOURS),
        Attribute("mean", tuple, "subtracted", _are_colours, _COLOURS),
        Attribute("std", tuple, "divides", _are_deviations, "three finite numbers above 0"),
        Attribute("half", int, "1 for FLOAT16 output", lambda v: v in (0, 1), "0 or 1"),
    ),
    outputs=(Port("tensor", (1, 3, "height", "width"), (TensorProto.FLOAT, TensorProto.FLOAT16)),),
)
