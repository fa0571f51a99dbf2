"""BatchedNMS for ONNX Runtime: one `NonMaxSuppression` over pictures and labels.

`NonMaxSuppression` takes scores `[B, labels, K]`, so each candidate's score stands in its own
label's row and `-max` in the others. Its outcome is scattered to a keep mask, from which TopK takes
the best. Its limits are vectors of one number: ONNX Runtime takes those and scalars, and ONNX's own
reference evaluator those alone.
"""

import numpy as np
import onnx

from ..body import Body
from ..operator import NodeView
from .selection import INPUTS, OUTPUTS, select_outputs

__all__ = ["make_function"]


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the local function that ONNX Runtime inlines for this node."""
    body = Body()
    rows = _scores_by_label(body, view)
    selected = body.op(
        "NonMaxSuppression", "boxes", rows, body.ints(int(np.iinfo(np.int64).max)),
        body.constant([view.attributes["iou_threshold"]]),
        body.constant([view.attributes["score_threshold"]]),
    )  # fmt: skip
    place = body.op("Gather", selected, body.ints(0, 2), axis=1)
    first = body.op("Slice", selected, body.ints(0), body.ints(1), body.ints(1))
    ones = body.op("Equal", first, first)
    none = body.op("Less", "scores", "scores")
    found = body.op("Squeeze", ones, body.ints(1))
    keep = body.op("ScatterND", none, place, found)
    select_outputs(body, view, keep)
    return body.to_function(view.function, INPUTS, OUTPUTS)


def _scores_by_label(body: Body, view: NodeView) -> str:
    """Return scores `[B, labels, K]`, a candidate's score in its own label's row alone."""
    if view.attributes["class_agnostic"]:
        return body.op("Unsqueeze", "scores", body.ints(1))
    highest = body.op("ReduceMax", "labels", keepdims=0)
    limit = body.op("Add", highest, body.constant(1, np.int32))
    label = body.op("Range", body.constant(0, np.int32), limit, body.constant(1, np.int32))
    column = body.op("Unsqueeze", label, body.ints(0, 2))
    mine = body.op("Equal", body.op("Unsqueeze", "labels", body.ints(1)), column)
    scores = body.op("Unsqueeze", "scores", body.ints(1))
    return body.op("Where", mine, scores, body.constant(np.finfo(np.float32).min))
