"""MatrixNMS in standard ONNX operators: maxima and minima over masked matrices.

TensorRT-RTX builds all of it, so this body serves both backends.
"""

import onnx

from ..body import Body
from ..operator import NodeView
from ..pairs import column_and_row, comes_before
from .schema import SCHEMA

__all__ = ["make_function"]


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the local function for this node."""
    body = Body()
    zero = body.constant(0.0)
    # Rows are the candidates that decay, columns those that come before them.
    before = comes_before(body, "scores")
    if not view.attributes["class_agnostic"]:
        mine, theirs = column_and_row(body, "labels")
        before = body.op("And", before, body.op("Equal", mine, theirs))
    overlap = body.op("Transpose", "iou", perm=[0, 2, 1])
    known = body.op("And", before, body.op("Equal", overlap, overlap))
    counted = body.op("Where", known, overlap, zero)
    compensate = body.op("ReduceMax", counted, body.ints(2), keepdims=0)
    _, theirs = column_and_row(body, _falls(body, view, compensate))
    usable = body.op("Not", body.op("Equal", theirs, zero))
    safe = body.op("Where", usable, theirs, body.constant(1.0))
    term = body.op("Div", _falls(body, view, counted), safe)
    term = body.op("Where", body.op("And", before, usable), term, body.constant(1.0))
    decay = body.op("ReduceMin", term, body.ints(2), keepdims=0)
    body.named("decayed", "Mul", "scores", decay)
    return body.to_function(SCHEMA.name, view.overload, ["iou", "scores", "labels"], ["decayed"])


def _falls(body: Body, view: NodeView, x: str) -> str:
    if view.attributes["method"] == "linear":
        return body.op("Sub", body.constant(1.0), x)
    squared = body.op("Mul", x, x)
    return body.op("Exp", body.op("Mul", squared, body.constant(-view.attributes["sigma"])))
