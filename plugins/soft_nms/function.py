"""SoftNMS in standard operators, for ONNX Runtime and for TensorRT alike.

A `Loop` takes one candidate of each picture a round, and stops when no picture takes one. It
carries

    current  [B, K]   scores, -inf for a candidate that was taken or is none
    taken    [B, D]   indices, one more real in each round
    value    [B, D]   scores at the moment of taking, -inf where nothing was taken

so every shape is known. A tie goes to the lowest index by arithmetic, not by TopK's or ArgMax's
habit, which differs between backends: the lowest place at which the score equals the maximum.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..batched_nms.selection import INPUTS, OUTPUTS
from ..body import Body
from ..operator import NodeView
from .schema import least_overlap

__all__ = ["make_function"]

_NONE = -np.inf  # below every score that can be taken


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the local function of this node."""
    body = Body()
    batch, count = view.input_shapes[1]
    most = view.attributes["max_outputs"]
    columns = [body.op("Squeeze", c, body.ints(2)) for c in _split(body, "boxes")]
    known = [*columns, _area(body, columns)]
    table = body.op("Concat", *(body.op("Unsqueeze", k, body.ints(2)) for k in known), axis=2)
    state = [
        _or_none(body, "scores"),
        body.constant(np.zeros((batch, most))),
        body.constant(np.full((batch, most), _NONE)),
    ]
    again = body.constant(True, np.bool_)
    graph = _round(view, known, table, body.constant(np.arange(count)[None]))
    rounds = body.constant(most, np.int64)
    _, taken, value = body.op("Loop", rounds, again, *state, body=graph, outputs=3)
    _outputs(body, taken, value)
    return body.to_function(view.function, INPUTS, OUTPUTS)


def _round(view: NodeView, known: list[str], table: str, place: str) -> onnx.GraphProto:
    """Return the loop's body.

    Args:
        view: the node.
        known: names of x0, y0, x1, y1 and area, each `[B, K]`.
        table: name of the same as `[B, K, 5]`.
        place: name of 0 … K-1, float `[1, K]`; exact, as K is far below 2²⁴.
    """
    a = view.attributes
    body = Body("loop_")
    best = body.op("ReduceMax", "loop_current", body.ints(1), keepdims=1)
    index = _lowest_place(body, best, place, view.input_shapes[1][1])
    is_taken = body.op("Greater", best, body.constant(a["score_threshold"]))
    row = body.op("Cast", index, to=TensorProto.INT64)
    overlap = _overlap(body, known, _pick(body, table, row))
    meets = body.op(
        "Greater", overlap, body.constant(least_overlap(a["method"], a["iou_threshold"]))
    )
    if not a["class_agnostic"]:
        label = body.op("GatherElements", "labels", row, axis=1)
        meets = body.op("And", meets, body.op("Equal", "labels", label))
    lower = body.op("Mul", "loop_current", _decay(body, overlap, a["method"], a["sigma"]))
    left = body.op("Where", meets, _or_none(body, lower), "loop_current")
    left = body.op("Where", body.op("Equal", place, index), body.constant(_NONE), left)
    body.named("loop_left", "Where", is_taken, left, "loop_current")
    here = body.op(
        "Equal", body.constant(np.arange(a["max_outputs"])[None]),
        body.op("Cast", "loop_number", to=TensorProto.FLOAT),
    )  # fmt: skip
    here = body.op("And", here, is_taken)
    body.named("loop_indices", "Where", here, index, "loop_taken")
    body.named("loop_scores", "Where", here, best, "loop_value")
    some = body.op("ReduceMax", body.op("Cast", is_taken, to=TensorProto.FLOAT), keepdims=0)
    body.named("loop_again", "Greater", some, body.constant(0.5))
    return _graph(body)


def _graph(body: Body) -> onnx.GraphProto:
    info = helper.make_tensor_value_info
    counters = [("loop_number", TensorProto.INT64), ("loop_condition", TensorProto.BOOL)]
    carried, left = (
        [info(name, TensorProto.FLOAT, None) for name in names]
        for names in (
            ("loop_current", "loop_taken", "loop_value"),
            ("loop_left", "loop_indices", "loop_scores"),
        )
    )
    return helper.make_graph(
        body.nodes,
        "take",
        [*(info(name, kind, []) for name, kind in counters), *carried],
        [info("loop_again", TensorProto.BOOL, []), *left],
    )


def _outputs(body: Body, taken: str, value: str) -> None:
    """Append the five outputs from the indices `[B, D]` and scores `[B, D]` that were taken."""
    real = body.op("Greater", value, body.constant(_NONE))
    zero = body.constant(0, np.int32)
    index = body.op("Cast", taken, to=TensorProto.INT64)
    body.named("out_scores", "Where", real, value, body.constant(0.0))
    labels = body.op("GatherElements", "labels", index, axis=1)
    body.named("out_labels", "Where", real, labels, zero)
    body.named("out_indices", "Cast", taken, to=TensorProto.INT32)
    inside = body.op("Unsqueeze", real, body.ints(2))
    body.named("out_boxes", "Where", inside, _rows(body, "boxes", index, 4), body.constant(0.0))
    ones = body.op("Cast", real, to=TensorProto.INT32)
    body.named("count", "ReduceSum", ones, body.ints(1), keepdims=0)


def _or_none(body: Body, scores: str) -> str:
    """Return scores with -inf in the place of NaN."""
    none = body.constant(_NONE)
    return body.op("Where", body.op("Greater", scores, none), scores, none)


def _lowest_place(body: Body, best: str, place: str, count: int) -> str:
    """Return the lowest place at which the current score is the best: float `[B, 1]`."""
    tied = body.op("Equal", "loop_current", best)
    among = body.op("Where", tied, place, body.constant(float(count)))
    return body.op("ReduceMin", among, body.ints(1), keepdims=1)


def _decay(body: Body, overlap: str, method: str, sigma: float) -> str:
    if method == "linear":
        return body.op("Sub", body.constant(1.0), overlap)
    square = body.op("Mul", overlap, overlap)
    return body.op("Exp", body.op("Div", body.op("Neg", square), body.constant(sigma)))


def _overlap(body: Body, all_boxes: list[str], one: list[str]) -> str:
    """Return the IoU of boxes `[B, K]` with one box a picture `[B, 1]`; both with their areas."""
    sides = []
    for axis in (0, 1):
        low = body.op("Max", all_boxes[axis], one[axis])
        high = body.op("Min", all_boxes[axis + 2], one[axis + 2])
        sides.append(body.op("Max", body.op("Sub", high, low), body.constant(0.0)))
    shared = body.op("Mul", *sides)
    both = body.op("Add", one[4], all_boxes[4])
    return body.op("Div", shared, body.op("Sub", both, shared))


def _area(body: Body, columns: list[str]) -> str:
    x0, y0, x1, y1 = columns
    return body.op("Mul", body.op("Sub", x1, x0), body.op("Sub", y1, y0))


def _pick(body: Body, table: str, row: str) -> list[str]:
    """Return the columns of row `[B, 1]` of a table `[B, K, 5]`: `[B, 1]` each."""
    picked = body.op("Squeeze", _rows(body, table, row, 5), body.ints(1))
    return body.op("Split", picked, axis=1, num_outputs=5, outputs=5)


def _rows(body: Body, table: str, index: str, width: int) -> str:
    """Return rows `index [B, N]` of `table [B, K, width]`: `[B, N, width]`."""
    size = body.op("Concat", body.op("Shape", index), body.ints(width), axis=0)
    place = body.op("Expand", body.op("Unsqueeze", index, body.ints(2)), size)
    return body.op("GatherElements", table, place, axis=1)


def _split(body: Body, boxes: str) -> list[str]:
    return body.op("Split", boxes, axis=2, num_outputs=4, outputs=4)
