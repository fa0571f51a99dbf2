"""PasteMasks: mask probabilities pasted into the picture, as torchvision pastes them.

With `S = M + 2`, P the `M x M` mask inside a ring of one zero, and corners truncated toward zero,

    c = (x0 + x1) / 2,  h = (x1 - x0) / 2 · S / M,  first = trunc(c - h),  last = trunc(c + h),
    u(x) = max((x - first + 1/2) · S / max(last - first + 1, 1) - 1/2, 0),
    i = min(floor(u), S - 1),  i' = min(i + 1, S - 1),  f = u - i,

and v, j, g the same along y, pixel (x, y) of the picture belongs to the mask if

    first ≤ x ≤ last, alike in y, and R(x, j) (1 - g) + R(x, j') g > threshold,
    R(x, r) = P[r, i] (1 - f) + P[r, i'] f.

Every operation is a float32 operation, in this order and never contracted, so that all bodies agree
on every pixel. Torchvision's own CPU build contracts some, which decides pixels within a few ulp of
the threshold. A box with a corner that is no number, or that lies 2²³ pixels or more from the
origin once widened, gives an empty mask; so does one that is inside out or outside the picture.

`packed` masks hold 32 pixels a word: pixel x is bit `x mod 32` of word `x div 32`, the least
significant bit first; bits beyond the width are 0. Otherwise a pixel is a byte, 0 or 1.

Source: torchvision.models.detection.roi_heads.paste_masks_in_image; ATen/native/UpSample.h.
"""

from onnx import TensorProto

from ..operator import Attribute, Port, Schema

__all__ = ["FARTHEST", "SCHEMA"]

FARTHEST = 2.0**23  # positions relative to a corner nearer than this are exact in float32

_FLOAT = (TensorProto.FLOAT,)
_LARGEST = 32768


def _is_extent(value: int) -> bool:
    return 1 <= value <= _LARGEST


SCHEMA = Schema(
    name="PasteMasks",
    version=1,
    meaning="mask probabilities pasted into the picture at their boxes",
    inputs=(
        Port("probabilities", ("B", "N", "M", "M"), (TensorProto.FLOAT, TensorProto.FLOAT16)),
        Port("boxes", ("B", "N", 4), _FLOAT),
    ),
    attributes=(
        Attribute("height", int, "of the picture, pixels", _is_extent, f"1 to {_LARGEST}"),
        Attribute("width", int, "of the picture, pixels", _is_extent, f"1 to {_LARGEST}"),
        Attribute("threshold", float, "mask pixels exceed it", lambda v: 0 <= v <= 1, "0 to 1"),
        Attribute("packed", int, "1 for 32 pixels a word", lambda v: v in (0, 1), "0 or 1"),
    ),
    outputs=(
        Port("masks", ("B", "N", "height", "columns"), (TensorProto.INT32, TensorProto.UINT8)),
    ),
)
