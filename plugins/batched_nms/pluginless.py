"""BatchedNMS without NonMaxSuppression: the exact fixed point of a suppression matrix.

Candidate j comes before i if its score is higher, or equal and j < i; nothing is sorted. With
S[i, j] where j comes before i, has its label, and overlaps it above the threshold, greedy
suppression is the one solution of

    keep[i] = candidate[i] and not any j: S[i, j] and keep[j].

Iterating from `keep = candidate` settles candidates in the order in which they come, one link of
the longest chain of suppressions a round, so a Loop that stops when nothing changes is exact
however long that chain is.

S is a byte a pair, which one kernel of TensorRT-RTX writes and one kernel a round reads. Where the
graph holds the labels there is a matrix for each label alone (`groups.py`).
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..body import Body
from ..operator import NodeView
from ..pairs import column_and_row, comes_before
from .groups import Groups, constant_groups
from .selection import INPUTS, OUTPUTS, select_outputs

__all__ = ["make_function"]


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the body in operators that every TensorRT parses."""
    body = Body()
    valid = body.op("Greater", "scores", body.constant(view.attributes["score_threshold"]))
    groups = constant_groups(view)
    if groups is None:
        keep = _settle(body, _suppression(body, view, _as_they_are(view)), valid)
        select_outputs(body, view, keep)
    else:
        _select_by_group(body, view, groups, valid)
    return body.to_function(view.function, INPUTS, OUTPUTS)


@dataclass(frozen=True)
class _Rows:
    """Candidates that are compared with each other: `[R, M, 4]`, `[R, M]`; labels may be None."""

    boxes: str
    scores: str
    labels: str | None
    length: int


def _as_they_are(view: NodeView) -> _Rows:
    labels = None if view.attributes["class_agnostic"] else "labels"
    return _Rows("boxes", "scores", labels, view.input_shapes[1][1])


def _select_by_group(body: Body, view: NodeView, groups: Groups, valid: str) -> None:
    """Settle each group among its own, and append the nodes that make the outputs."""
    batch = view.input_shapes[1][0]
    number, longest = groups.places.shape
    places = body.constant(groups.places.ravel(), np.int64)

    def by_group(values: str, *rest: int) -> str:
        picked = body.op("Gather", values, places, axis=1)
        return body.op("Reshape", picked, body.ints(batch * number, longest, *rest))

    rows = _Rows(by_group("boxes", 4), by_group("scores"), None, longest)
    real = np.tile(groups.real, (batch, 1))
    candidate = body.op("And", by_group(valid), body.constant(real, np.bool_))
    keep = _settle(body, _suppression(body, view, rows), candidate)
    keep = body.op("Reshape", keep, body.ints(batch, number * longest))
    if not groups.keep_order:
        keep = body.op("Gather", keep, body.constant(groups.inverse, np.int64), axis=1)
        select_outputs(body, view, keep)
        return
    scores = body.op("Reshape", rows.scores, body.ints(batch, number * longest))
    select_outputs(body, view, keep, scores=scores, places=places)


def _suppression(body: Body, view: NodeView, rows: _Rows) -> str:
    """Return S: bool `[R, M, M]`, rows the suppressed candidate, columns the suppressing one."""
    columns = [body.slice_last(rows.boxes, i, i + 1) for i in range(4)]
    across = [body.op("Transpose", c, perm=[0, 2, 1]) for c in columns]
    width, height = (_overlap(body, columns, across, axis) for axis in (0, 1))
    shared = body.op("Mul", width, height)
    area = body.op(
        "Mul",
        body.op("Sub", columns[2], columns[0]),
        body.op("Sub", columns[3], columns[1]),
    )
    both = body.op("Add", area, body.op("Transpose", area, perm=[0, 2, 1]))
    iou = body.op("Div", shared, body.op("Sub", both, shared))
    above = body.op("Greater", iou, body.constant(view.attributes["iou_threshold"]))
    above = body.op("And", above, comes_before(body, rows.scores, rows.length))
    if rows.labels is not None:
        mine, theirs = column_and_row(body, rows.labels)
        above = body.op("And", above, body.op("Equal", mine, theirs))
    return above


def _overlap(body: Body, columns: list[str], rows: list[str], axis: int) -> str:
    low = body.op("Max", columns[axis], rows[axis])
    high = body.op("Min", columns[axis + 2], rows[axis + 2])
    return body.op("Max", body.op("Sub", high, low), body.constant(0.0))


def _settle(body: Body, matrix: str, candidate: str) -> str:
    """Iterate `keep = candidate and not any (S and keep)` until nothing changes: bool `[R, M]`."""
    candidate = body.op("Cast", candidate, to=TensorProto.FLOAT)
    inner = Body("loop_")
    theirs = inner.op("Unsqueeze", "loop_keep", inner.ints(1))
    hits = inner.op("Where", matrix, theirs, inner.constant(0.0))
    hit = inner.op("ReduceMax", hits, inner.ints(2), keepdims=0)
    kept = inner.op("Mul", inner.op("Sub", inner.constant(1.0), hit), candidate)
    change = inner.op("Abs", inner.op("Sub", kept, "loop_keep"))
    # In one row: of [R, M], TensorRT-RTX takes the greatest in two kernels for most M.
    change = inner.op("Reshape", change, inner.ints(-1))
    most = inner.op("ReduceMax", change, inner.ints(0), keepdims=0)
    inner.named("loop_again", "Greater", most, inner.constant(0.0))
    inner.named("loop_kept", "Identity", kept)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        inner.nodes, "settle",
        [info("loop_round", TensorProto.INT64, []), info("loop_condition", TensorProto.BOOL, []),
         info("loop_keep", TensorProto.FLOAT, None)],
        [info("loop_again", TensorProto.BOOL, []), info("loop_kept", TensorProto.FLOAT, None)],
    )  # fmt: skip
    settled = body.op("Loop", "", body.constant(True, np.bool_), candidate, body=graph)
    return body.op("Greater", settled, body.constant(0.5))
