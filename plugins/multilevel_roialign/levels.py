"""Level assignment as ONNX nodes, shared by both ONNX bodies."""

import numpy as np

from ..body import Body
from ..operator import NodeView

__all__ = ["assign_levels", "input_names"]


def input_names(view: NodeView) -> list[str]:
    """Return the names of a function's inputs: `boxes`, then `level0`, `level1`, …"""
    return ["boxes", *(f"level{i}" for i in range(len(view.input_shapes) - 1))]


def assign_levels(body: Body, view: NodeView, boxes: str) -> str:
    """Append the nodes that give each box `[..., 4]` its feature map's index, float `[...]`."""
    a = view.attributes
    corner_low = body.slice_last(boxes, 0, 2)
    corner_high = body.slice_last(boxes, 2, 4)
    extent = body.op("Sub", corner_high, corner_low)
    width = body.slice_last(extent, 0, 1)
    height = body.slice_last(extent, 1, 2)
    side = body.op("Sqrt", body.op("Mul", width, height))
    ratio = body.op("Div", side, body.constant(a["canonical_scale"]))
    log2 = body.op("Div", body.op("Log", ratio), body.constant(np.log(2.0)))
    shifted = body.op("Add", log2, body.constant(float(a["canonical_level"])))
    shifted = body.op("Add", shifted, body.constant(a["level_epsilon"]))
    lowest = float(a["min_level"])
    highest = lowest + len(view.input_shapes) - 2
    floored = body.op("Floor", shifted)
    usable = body.op("Where", body.op("IsNaN", floored), body.constant(lowest), floored)
    clipped = body.op("Clip", usable, body.constant(lowest), body.constant(highest))
    level = body.op("Sub", clipped, body.constant(lowest))
    return body.op("Squeeze", level, body.ints(-1))
