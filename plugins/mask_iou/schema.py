"""MaskIoU: IoU of all pairs of masks of a picture.

    iou[i, j] = |A_i and A_j| / |A_i or A_j|,   A_i = {pixels of mask i whose value > threshold}

and 0 where the union is empty; `area[i] = |A_i|` in pixels. FP16 and UINT8 values are compared as
FP32, a value that is no number belongs to no mask. Pixels are counted exactly, and so masks have at
most 2^24 of them, up to which FP32 knows every integer.

Source: the mask overlap of Wang et al., SOLOv2 (2020), and of COCO's evaluation.
"""

from onnx import TensorProto

from ...core import UnsupportedModelError
from ..launch import Dim
from ..operator import Attribute, Port, Schema

__all__ = ["SCHEMA", "require_countable"]

_FLOAT = (TensorProto.FLOAT,)
_LARGEST = 3.4028234663852886e38  # that FP32 holds
_MOST_PIXELS = 2**24


def require_countable(height: Dim, width: Dim) -> None:
    """Raise `UnsupportedModelError` if a mask has more pixels than are counted exactly."""
    pixels = height * width
    if isinstance(pixels, int) and pixels > _MOST_PIXELS:
        raise UnsupportedModelError(
            f"MaskIoU counts at most {_MOST_PIXELS} pixels a mask, and the graph's masks have "
            f"{height} x {width}: compare them at a lower resolution."
        )


SCHEMA = Schema(
    name="MaskIoU",
    version=1,
    meaning="IoU of all pairs of masks",
    inputs=(
        Port("masks", ("B", "N", "H", "W"),
             (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8)),
    ),
    attributes=(
        Attribute("threshold", float, "a pixel belongs to the mask above it",
                  lambda v: abs(v) <= _LARGEST, "finite in FP32"),
    ),
    outputs=(Port("iou", ("B", "N", "N"), _FLOAT), Port("area", ("B", "N"), _FLOAT)),
)  # fmt: skip
