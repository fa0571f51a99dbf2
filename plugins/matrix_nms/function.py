"""MatrixNMS in standard ONNX operators: maxima and minima over matrices.

Overlaps with candidates that do not count are set to 0. Their terms are then at least 1, while
`decay` is at most 1: a candidate that nothing comes before has the term 1 / f(0) of its own, and
any other one that of the best of its label, whose own compensation is 0. So no minimum is masked.

TensorRT-RTX builds all of it, so this body serves both backends.
"""

import onnx

from ..body import Body
from ..operator import NodeView
from ..pairs import column_and_row, comes_before

__all__ = ["make_function"]


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the local function for this node."""
    body = Body()
    overlap = _overlap_with_better(body, view)
    compensate = body.op("ReduceMax", overlap, body.ints(2), keepdims=0)
    _, theirs = column_and_row(body, compensate)
    decay = _linear if view.attributes["method"] == "linear" else _gaussian
    body.named("decayed", "Mul", "scores", decay(body, view, overlap, theirs))
    return body.to_function(view.function, ["iou", "scores", "labels"], ["decayed"])


def _overlap_with_better(body: Body, view: NodeView) -> str:
    """Return float `[B, N, N]`: rows decay, columns come before them; 0 where one does not."""
    before = comes_before(body, "scores", view.input_shapes[1][1])
    if not view.attributes["class_agnostic"]:
        mine, theirs = column_and_row(body, "labels")
        before = body.op("And", before, body.op("Equal", mine, theirs))
    overlap = body.op("Transpose", "iou", perm=[0, 2, 1])
    zero = body.constant(0.0)
    counts = body.op("And", before, body.op("Greater", overlap, zero))
    return body.op("Where", counts, body.op("Min", overlap, body.constant(1.0)), zero)


def _linear(body: Body, view: NodeView, overlap: str, compensate: str) -> str:
    one = body.constant(1.0)
    term = body.op("Div", body.op("Sub", one, overlap), body.op("Sub", one, compensate))
    term = body.op("Where", body.op("Less", compensate, one), term, one)
    return body.op("ReduceMin", term, body.ints(2), keepdims=0)


def _gaussian(body: Body, view: NodeView, overlap: str, compensate: str) -> str:
    """The least exponential is that of the largest exponent, so there is one a candidate."""
    excess = body.op(
        "Sub", body.op("Mul", overlap, overlap), body.op("Mul", compensate, compensate)
    )
    most = body.op("ReduceMax", excess, body.ints(2), keepdims=0)
    return body.op("Exp", body.op("Mul", most, body.constant(-view.attributes["sigma"])))
