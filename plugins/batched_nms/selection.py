"""The end that both ONNX bodies share: the best D kept candidates, padded with zeros."""

import numpy as np
from onnx import TensorProto

from ..body import Body
from ..operator import NodeView

__all__ = ["INPUTS", "OUTPUTS", "select_outputs"]

INPUTS = ["boxes", "scores", "labels"]
OUTPUTS = ["out_boxes", "out_scores", "out_labels", "out_indices", "count"]


def select_outputs(
    body: Body, view: NodeView, keep: str, *, scores: str = "scores", places: str = ""
) -> None:
    """Append the nodes that make the five outputs.

    Args:
        body: the function under construction, with the inputs `INPUTS`.
        view: the node, for `max_outputs`.
        keep: bool `[B, K]`, which candidates survived; or `[B, P]` in another arrangement, in
            which equal scores have the same order.
        scores: in the arrangement of `keep`.
        places: int64 `[P]`, which candidate each of another arrangement is.
    """
    lowest = body.constant(np.finfo(np.float32).min)
    ranked = body.op("Where", keep, scores, lowest)
    top, index = body.op("TopK", ranked, body.ints(view.attributes["max_outputs"]), outputs=2)
    if places:
        index = body.op("Gather", places, index, axis=0)
    real = body.op("Greater", top, lowest)
    zero = body.constant(0, np.int32)
    body.named("out_scores", "Where", real, top, body.constant(0.0))
    body.named(
        "out_labels", "Where", real, body.op("GatherElements", "labels", index, axis=1), zero
    )
    narrow = body.op("Cast", index, to=TensorProto.INT32)
    body.named("out_indices", "Where", real, narrow, zero)
    size = body.op("Concat", body.op("Shape", index), body.ints(4), axis=0)
    place = body.op("Expand", body.op("Unsqueeze", index, body.ints(2)), size)
    picked = body.op("GatherElements", "boxes", place, axis=1)
    inside = body.op("Unsqueeze", real, body.ints(2))
    body.named("out_boxes", "Where", inside, picked, body.constant(0.0))
    ones = body.op("Cast", real, to=TensorProto.INT32)
    body.named("count", "ReduceSum", ones, body.ints(1), keepdims=0)
