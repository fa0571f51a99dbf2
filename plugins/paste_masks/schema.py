"""PasteMasks: mask probabilities pasted into the picture, as torchvision or detectron2 does it.

With `S = M + 2` and P the `M x M` mask inside a ring of one zero, pixel (x, y) of the picture sees
it at (u, v). In `paste` "torchvision", with corners truncated toward zero,

    c = (x0 + x1) / 2,  h = (x1 - x0) / 2 · S / M,  first = trunc(c - h),  last = trunc(c + h),
    u(x) = max((x - first + 1/2) · S / max(last - first + 1, 1) - 1/2, 0)   for first ≤ x ≤ last,

and in `paste` "detectron2" at its centre in the box as it is,

    u(x) = (((x + 1/2 - x0) / (x1 - x0) · 2 - 1) + 1) · M / 2 - 1/2   where that is in (-1, M),

plus 1 for the ring; v is the same along y. With i = min(floor(u), S - 1), i' = min(i + 1, S - 1),
f = u - i and j, j', g of v likewise, the pixel belongs to the mask if u and v are there and

    R(j) (1 - g) + R(j') g > threshold,   R(r) = P[r, i] (1 - f) + P[r, i'] f,

or, in "detectron2", if it reaches the threshold (and is above 0).

Every operation is a float32 operation, in this order and never contracted, so that all bodies agree
on every pixel; the 1 of the ring is added to i, after f is taken. The libraries' own CPU builds
contract some, and detectron2 adds the four products of a pixel in another order, which decides
pixels within a few ulp of the threshold. A box with a corner (a widened one in "torchvision") that
is no number, or that lies 2²³ pixels or more from the origin, gives an empty mask; so does one that
is inside out or outside the picture, and in "detectron2" one without an extent.

`packed` masks hold 32 pixels a word: pixel x is bit `x mod 32` of word `x div 32`, the least
significant bit first; bits beyond the width are 0. Otherwise a pixel is a byte, 0 or 1.

Source: torchvision.models.detection.roi_heads.paste_masks_in_image; ATen/native/UpSample.h;
detectron2.layers.mask_ops.paste_masks_in_image and mmdet's fcn_mask_head._do_paste_mask, which are
one; ATen/native/GridSampler.h.
"""

from onnx import TensorProto

from ...core.masks import MaskPaste
from ..operator import Attribute, Port, Schema

__all__ = ["FARTHEST", "SCHEMA"]

FARTHEST = 2.0**23  # positions relative to a corner nearer than this are exact in float32

_FLOAT = (TensorProto.FLOAT,)
_LARGEST = 32768
_PASTES = tuple(paste.value for paste in MaskPaste)


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
        Attribute(
            "threshold", float, "mask pixels exceed or reach it", lambda v: 0 <= v <= 1, "0 to 1"
        ),
        Attribute("packed", int, "1 for 32 pixels a word", lambda v: v in (0, 1), "0 or 1"),
        Attribute(
            "paste", str, "whose rule", lambda v: v in _PASTES, "'torchvision' or 'detectron2'",
            default=MaskPaste.TORCHVISION.value,
        ),
    ),
    outputs=(
        Port("masks", ("B", "N", "height", "columns"), (TensorProto.INT32, TensorProto.UINT8)),
    ),
)  # fmt: skip
