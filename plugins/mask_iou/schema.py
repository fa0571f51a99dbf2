"""MaskIoU: IoU of all pairs of masks of a picture.

    iou[i, j] = |A_i and A_j| / |A_i or A_j|,   A_i = {pixels of mask i whose value > threshold}

and 0 where the union is empty. Pixels are counted exactly, up to 2^24 a mask.

Source: the mask overlap of Wang et al., SOLOv2 (2020), and of COCO's evaluation.
"""

from onnx import TensorProto

from ..operator import Attribute, Port, Schema

__all__ = ["SCHEMA"]

_FLOAT = (TensorProto.FLOAT,)

SCHEMA = Schema(
    name="MaskIoU",
    version=1,
    meaning="IoU of all pairs of masks",
    inputs=(
        Port("masks", ("B", "N", "H", "W"),
             (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8)),
    ),
    attributes=(Attribute("threshold", float, "a pixel belongs to the mask above it"),),
    outputs=(Port("iou", ("B", "N", "N"), _FLOAT), Port("area", ("B", "N"), _FLOAT)),
)  # fmt: skip
