"""BatchedNMS without NonMaxSuppression: the exact fixed point of a suppression matrix.

Candidate j comes before i if its score is higher, or equal and j < i; nothing is sorted. With
S[i, j] = 1 where j comes before i, has its label, and overlaps it above the threshold, greedy
suppression is the one solution of

    keep = candidate · (1 - min(S · keep, 1)).

Iterating from `keep = candidate` settles candidates in the order in which they come, one link of
the longest chain of suppressions a round, so a Loop that stops when nothing changes is exact
however long that chain is.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..body import Body
from ..operator import NodeView
from ..pairs import column_and_row, comes_before
from .schema import SCHEMA
from .selection import INPUTS, OUTPUTS, select_outputs

__all__ = ["make_function"]


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the body in operators that every TensorRT parses."""
    body = Body()
    count = view.input_shapes[0][1]
    valid = body.op("Greater", "scores", body.constant(view.attributes["score_threshold"]))
    candidate = body.op("Unsqueeze", body.op("Cast", valid, to=TensorProto.FLOAT), body.ints(2))
    settled = _fixed_point(body, _suppression(body, view), candidate, count)
    keep = body.op("Greater", body.op("Squeeze", settled, body.ints(2)), body.constant(0.5))
    select_outputs(body, view, keep)
    return body.to_function(SCHEMA.name, view.overload, INPUTS, OUTPUTS)


def _suppression(body: Body, view: NodeView) -> str:
    """Return S: float `[B, K, K]`, rows the suppressed candidate, columns the suppressing one."""
    columns = [body.slice_last("boxes", i, i + 1) for i in range(4)]
    rows = [body.op("Transpose", c, perm=[0, 2, 1]) for c in columns]
    width, height = (_overlap(body, columns, rows, axis) for axis in (0, 1))
    shared = body.op("Mul", width, height)
    area = body.op(
        "Mul",
        body.op("Sub", columns[2], columns[0]),
        body.op("Sub", columns[3], columns[1]),
    )
    both = body.op("Add", area, body.op("Transpose", area, perm=[0, 2, 1]))
    iou = body.op("Div", shared, body.op("Sub", both, shared))
    above = body.op("Greater", iou, body.constant(view.attributes["iou_threshold"]))
    above = body.op("And", above, comes_before(body, "scores"))
    if not view.attributes["class_agnostic"]:
        mine, theirs = column_and_row(body, "labels")
        above = body.op("And", above, body.op("Equal", mine, theirs))
    return body.op("Cast", above, to=TensorProto.FLOAT)


def _overlap(body: Body, columns: list[str], rows: list[str], axis: int) -> str:
    low = body.op("Max", columns[axis], rows[axis])
    high = body.op("Min", columns[axis + 2], rows[axis + 2])
    return body.op("Max", body.op("Sub", high, low), body.constant(0.0))


def _fixed_point(body: Body, matrix: str, candidate: str, count: int) -> str:
    """Iterate `keep = candidate · (S · keep = 0)` until nothing changes: `[B, K, 1]`."""
    inner = Body("loop_")
    hits = inner.op("MatMul", matrix, "loop_keep")
    free = inner.op("Less", hits, inner.constant(0.5))
    free = inner.op("Cast", free, to=TensorProto.FLOAT)
    kept = inner.op("Mul", free, candidate)
    change = inner.op("Abs", inner.op("Sub", kept, "loop_keep"))
    total = inner.op("ReduceSum", change, keepdims=0)
    inner.named("loop_again", "Greater", total, inner.constant(0.0))
    inner.named("loop_kept", "Identity", kept)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        inner.nodes, "settle",
        [info("loop_round", TensorProto.INT64, []), info("loop_condition", TensorProto.BOOL, []),
         info("loop_keep", TensorProto.FLOAT, None)],
        [info("loop_again", TensorProto.BOOL, []), info("loop_kept", TensorProto.FLOAT, None)],
    )  # fmt: skip
    rounds = body.constant(count, np.int64)
    return body.op("Loop", rounds, body.constant(True, np.bool_), candidate, body=graph)
