"""MaskIoU without plugins: products of the masks as FP16 zeros and ones, a piece of them at a time.

FP16 knows every integer up to 2048. So in a product over at most 2048 pixels each sum is exact,
whatever it is kept in and in whichever order it comes about, and the pieces' products are added up
in FP32, which counts exactly up to 2^24. A mask's area is what it shares with itself. FP16 is half
the bytes, and runs on tensor cores.
"""

import numpy as np
import onnx
from onnx import TensorProto

from ..body import Body
from ..operator import NodeView
from ..pairs import column_and_row
from .schema import require_countable

__all__ = ["make_function"]

_MOST_EXACT = 2048


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the body in operators that every TensorRT parses."""
    body = Body()
    batch, count, height, width = view.input_shapes[0]
    require_countable(height, width)
    wide = body.op("Cast", "masks", to=TensorProto.FLOAT)
    inside = body.op("Greater", wide, body.constant(view.attributes["threshold"]))
    flat = body.op("Reshape", inside, body.ints(batch, count, height * width), allowzero=1)
    number = max(1, -(-height * width // _MOST_EXACT))
    half = body.op("Cast", flat, to=TensorProto.FLOAT16)
    pieces = _pieces(body, half, height * width, number)
    shared = body.op("MatMul", pieces, body.op("Transpose", pieces, perm=[0, 2, 1]))
    shared = body.op("Reshape", shared, body.ints(number, batch, count, count), allowzero=1)
    shared = body.op("Cast", shared, to=TensorProto.FLOAT)
    shared = body.op("ReduceSum", shared, body.ints(0), keepdims=0)
    places = np.broadcast_to(np.arange(count)[:, None], (batch, count, 1))
    itself = body.op("GatherElements", shared, body.constant(places, np.int64), axis=2)
    body.named("area", "Squeeze", itself, body.ints(2))
    mine, theirs = column_and_row(body, "area")
    union = body.op("Sub", body.op("Add", mine, theirs), shared)
    # An empty union shares nothing, so that its quotient is 0.
    body.named("iou", "Div", shared, body.op("Max", union, body.constant(1.0)))
    return body.to_function(view.function, ["masks"], ["iou", "area"])


def _pieces(body: Body, flat: str, pixels: int, number: int) -> str:
    """Cut `flat [B, N, pixels]` to `[number · B, N, size]`, zeros behind the last one's end.

    Of slices one after the other, and of rank 3, TensorRT-RTX copies neither factor.
    """
    size = -(-pixels // number)
    if number * size > pixels:
        zero = body.op("CastLike", body.constant(0.0), flat)
        flat = body.op("Pad", flat, body.ints(0, 0, 0, 0, 0, number * size - pixels), zero)
    pieces = [
        body.op("Slice", flat, body.ints(index * size), body.ints((index + 1) * size), body.ints(2))
        for index in range(number)
    ]
    return body.op("Concat", *pieces, axis=0) if number > 1 else flat
