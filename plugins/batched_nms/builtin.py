"""BatchedNMS for TensorRT 8.5 and 8.6: `EfficientNMS_ONNX_TRT`, which returns indices.

The plugin takes scores `[B, K, classes]` and returns the kept ones as rows (picture, class,
candidate), D a picture at most, in any order of pictures, padded with copies of the last row; all
of a row is -1 where nothing is kept in any picture. The rows are scattered to a keep mask, from
which TopK takes the best.

It is handed an order instead of scores: candidate i has

    order[i] = K - (number of candidates that come before i),      0 if it is no candidate,

so that its threshold, 0.5, its sorting, in which equal scores have no order, and its limits cannot
differ from the definition. Where it does differ:

* It suppresses at IoU ≥ t, in float32; ours is IoU > t. `iou_threshold` is the next float32 above
  ours, which is the same. (Below the smallest normal number, it is that number.)
* It turns inverted boxes around. Boxes that are empty, inverted or no numbers suppress nothing by
  the definition, so it sees them as points.
* It looks at the best 5000 candidates of a picture: more are refused. (The plugin's text says 4096,
  its source 5000, on every device with 65536 registers a block, as Xavier and Orin have.)
* Its compiler may fuse a multiplication into the sum of areas, so pairs whose IoU is within a
  rounding of the threshold can fall on the other side.

The plugin must know the number of classes. Labels that the graph holds as a constant are counted.
Others are not bounded: each label is then represented by its best candidate, which makes K
classes. It works in 24 bytes for each candidate and class, so their number is limited.

Source: NVIDIA/TensorRT, plugin/efficientNMSPlugin, releases 8.5 and 8.6. Not yet run on a device.
"""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ...core import UnsupportedTargetError
from ..body import Body
from ..builtin import plugin_op, require_float32, to_function
from ..operator import NodeView
from ..pairs import column_and_row
from .schema import SCHEMA
from .selection import INPUTS, OUTPUTS

__all__ = ["make_function"]

_MOST_CANDIDATES = 5000
_MOST_SCORES = 1 << 24  # candidates times classes of a batch: 400 MB of work space
_MOST_OUTPUTS = 3840  # of TopK
_LABELS = INPUTS.index("labels")


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the body in TensorRT 8's built-in plugins and operators that its parser takes.

    Raises:
        UnsupportedTargetError: sizes above the plugin's limits, or inputs that are not FP32.
    """
    require_float32(view, SCHEMA.name, {0: "boxes", 1: "scores"})
    _require_limits(view)
    body = Body()
    order = _order(body, view)
    rows = plugin_op(
        body, "EfficientNMS_ONNX_TRT", _proper_boxes(body), _order_by_class(body, view, order),
        score_threshold=0.5, iou_threshold=_least_suppressing(view.attributes["iou_threshold"]),
        max_output_boxes_per_class=view.attributes["max_outputs"], center_point_box=0,
    )  # fmt: skip
    _select_outputs(body, view, body.op("Mul", order, _keep(body, view, rows)))
    return to_function(body, view, INPUTS, OUTPUTS)


def _require_limits(view: NodeView) -> None:
    batch, count = view.input_shapes[1]
    if count > _MOST_CANDIDATES:
        raise UnsupportedTargetError(
            f"BatchedNMS has {count} candidates a picture, and TensorRT 8's EfficientNMS looks at "
            f"the best {_MOST_CANDIDATES} alone: lower the number of candidates before this node."
        )
    classes = _class_count(view)
    if batch * count * classes > _MOST_SCORES:
        raise UnsupportedTargetError(
            f"BatchedNMS has {batch} x {count} candidates of up to {classes} classes, more than "
            f"the {_MOST_SCORES} scores that TensorRT 8's EfficientNMS has memory for: lower the "
            "number of candidates before this node, or the batch."
        )
    if view.attributes["max_outputs"] > _MOST_OUTPUTS:
        raise UnsupportedTargetError(
            f"BatchedNMS returns {view.attributes['max_outputs']} candidates, and TensorRT 8's "
            f"TopK at most {_MOST_OUTPUTS}: export with a smaller max_outputs."
        )


def _least_suppressing(threshold: float) -> float:
    """Return the t' with `IoU >= t'` where `IoU > threshold`, both in float32."""
    above = np.nextafter(np.float32(threshold), np.float32(np.inf))
    return float(max(above, np.finfo(np.float32).tiny))


def _constant_labels(view: NodeView) -> np.ndarray | None:
    """Return the distinct labels, sorted, if the graph holds the labels as a constant."""
    labels = view.constants.get(_LABELS)
    return None if labels is None else np.unique(numpy_helper.to_array(labels))


def _class_count(view: NodeView) -> int:
    if view.attributes["class_agnostic"]:
        return 1
    distinct = _constant_labels(view)
    return view.input_shapes[1][1] if distinct is None else len(distinct)


def _order(body: Body, view: NodeView) -> str:
    """Return `[B, K]`: K for the first candidate, one less for the next, 0 for those below."""
    count = view.input_shapes[1][1]
    valid = body.op("Greater", "scores", body.constant(view.attributes["score_threshold"]))
    # Selected at run time: between constants, a builder would fold a K x K constant into the
    # engine. Among equal scores, all are candidates or none is.
    places = body.constant(np.arange(count)[None])
    place = body.op("Where", valid, places, body.constant(float(count)))
    mine, theirs = column_and_row(body, "scores")
    my_place, their_place = column_and_row(body, place)
    tied = body.op("And", body.op("Equal", theirs, mine), body.op("Less", their_place, my_place))
    before = body.op("Or", body.op("Greater", theirs, mine), tied)
    rank = body.op("ReduceSum", _float(body, before), body.ints(2), keepdims=0)
    left = body.op("Sub", body.constant(float(count)), rank)
    return body.op("Where", valid, left, body.constant(0.0))


def _proper_boxes(body: Body) -> str:
    """Return boxes `[B, K, 4]`, a point in the place of any that has no area."""
    high, low = body.slice_last("boxes", 2, 4), body.slice_last("boxes", 0, 2)
    longer = _float(body, body.op("Greater", high, low))
    sides = body.op("ReduceSum", longer, body.ints(2), keepdims=1)
    proper = body.op("Greater", sides, body.constant(1.5))
    return body.op("Where", proper, "boxes", body.constant(0.0))


def _order_by_class(body: Body, view: NodeView, order: str) -> str:
    """Return order `[B, K, classes]`, a candidate's in its own class alone."""
    column, row = column_and_row(body, order)
    if view.attributes["class_agnostic"]:
        return column
    mine, theirs = column_and_row(body, "labels")
    distinct = _constant_labels(view)
    if distinct is not None:
        classes = body.constant(distinct[None, None], np.int32)
        return body.op("Mul", column, _float(body, body.op("Equal", mine, classes)))
    same = body.op("Equal", mine, theirs)
    better = _float(body, body.op("And", same, body.op("Greater", row, column)))
    behind = body.op("ReduceSum", better, body.ints(2), keepdims=0)
    leads = body.op("Unsqueeze", body.op("Less", behind, body.constant(0.5)), body.ints(1))
    return body.op("Mul", column, _float(body, body.op("And", same, leads)))


def _keep(body: Body, view: NodeView, rows: str) -> str:
    """Return float `[B, K]`: 1 for the candidates of `rows`, int32 `[B·D, 3]`."""
    batch, count = view.input_shapes[1]
    picture, candidate = (body.slice_last(rows, i, i + 1) for i in (0, 2))
    first = body.op("Mul", picture, body.constant(count, np.int32))
    beyond = body.constant(batch * count, np.int32)
    nothing = body.op("Less", picture, body.constant(0, np.int32))
    place = body.op("Where", nothing, beyond, body.op("Add", first, candidate))
    place = body.op("Reshape", place, body.ints(-1))
    zeros = body.constant(np.zeros(batch * count + 1))
    ones = body.constant(np.ones(batch * view.attributes["max_outputs"]))
    marked = body.op("ScatterElements", zeros, place, ones, axis=0)
    marked = body.slice_last(marked, 0, batch * count)
    return body.op("Reshape", marked, body.ints(batch, count))


def _select_outputs(body: Body, view: NodeView, order: str) -> None:
    """Append the five outputs, `order [B, K]` being 0 for what is not kept.

    Unlike that of the other forms, this selection adds no integers, which TensorRT 8 does not.
    """
    batch, kept = view.input_shapes[1][0], view.attributes["max_outputs"]
    top, index = body.op("TopK", order, body.ints(kept), outputs=2)
    real = body.op("Greater", top, body.constant(0.5))
    inside = body.op("Unsqueeze", real, body.ints(2))
    place = body.op("Expand", body.op("Unsqueeze", index, body.ints(2)), body.ints(batch, kept, 4))
    zero, none = body.constant(0.0), body.constant(0, np.int32)
    boxes = body.op("GatherElements", "boxes", place, axis=1)
    scores = body.op("GatherElements", "scores", index, axis=1)
    labels = body.op("GatherElements", "labels", index, axis=1)
    body.named("out_boxes", "Where", inside, boxes, zero)
    body.named("out_scores", "Where", real, scores, zero)
    body.named("out_labels", "Where", real, labels, none)
    body.named("out_indices", "Where", real, body.op("Cast", index, to=TensorProto.INT32), none)
    number = body.op("ReduceSum", _float(body, real), body.ints(1), keepdims=0)
    body.named("count", "Cast", number, to=TensorProto.INT32)


def _float(body: Body, values: str) -> str:
    return body.op("Cast", values, to=TensorProto.FLOAT)
