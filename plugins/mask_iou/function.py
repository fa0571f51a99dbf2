"""MaskIoU in standard ONNX operators: a product of the masks, as zeros and ones, with themselves.

FP32 counts exactly up to 2^24. TensorRT-RTX builds all of it, so this body serves both backends.
"""

import onnx
from onnx import TensorProto

from ..body import Body
from ..operator import NodeView
from ..pairs import column_and_row
from .schema import require_countable

__all__ = ["make_function"]


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the local function for this node."""
    body = Body()
    batch, count, height, width = view.input_shapes[0]
    require_countable(height, width)
    wide = body.op("Cast", "masks", to=TensorProto.FLOAT)
    inside = body.op("Greater", wide, body.constant(view.attributes["threshold"]))
    inside = body.op("Cast", inside, to=TensorProto.FLOAT)
    flat = body.op("Reshape", inside, body.ints(batch, count, height * width), allowzero=1)
    shared = body.op("MatMul", flat, body.op("Transpose", flat, perm=[0, 2, 1]))
    body.named("area", "ReduceSum", flat, body.ints(2), keepdims=0)
    mine, theirs = column_and_row(body, "area")
    union = body.op("Sub", body.op("Add", mine, theirs), shared)
    # An empty union shares nothing, so that its quotient is 0.
    body.named("iou", "Div", shared, body.op("Max", union, body.constant(1.0)))
    return body.to_function(view.function, ["masks"], ["iou", "area"])
