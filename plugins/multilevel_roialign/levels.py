"""What both ONNX bodies and the kernel share: level assignment, and which inputs they can use.

A box is on level l or above from a side of `canonical_scale * 2^(min_level + l - canonical_level -
level_epsilon)` on. Comparing sides with these is the logarithm of the schema, without its rounding.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto

from ..body import Body
from ..operator import NodeView

__all__ = ["assign_levels", "feature_maps", "first_sides", "input_names", "usable_boxes"]

_FARTHEST = 1e9
_NOWHERE = -1e6  # so far outside that every sample is zero


def input_names(view: NodeView) -> list[str]:
    """Return the names of a function's inputs: `boxes`, then `level0`, `level1`, …"""
    return ["boxes", *(f"level{i}" for i in range(len(view.input_shapes) - 1))]


def first_sides(attributes: Mapping[str, Any], levels: int) -> list[float]:
    """Return the box sides, in input pixels, from which on level 1, 2, … is used."""
    lowest = attributes["min_level"] - attributes["canonical_level"] - attributes["level_epsilon"]
    return [attributes["canonical_scale"] * 2.0 ** (lowest + up) for up in range(1, levels)]


def assign_levels(body: Body, view: NodeView, boxes: str) -> str:
    """Append the nodes that give each box `[..., 4]` its feature map's index, float `[...]`."""
    levels = len(view.input_shapes) - 1
    extent = body.op("Sub", body.slice_last(boxes, 2, 4), body.slice_last(boxes, 0, 2))
    width, height = body.slice_last(extent, 0, 1), body.slice_last(extent, 1, 2)
    side = body.op("Sqrt", body.op("Mul", width, height))
    sides = body.constant(np.array([0.0, *first_sides(view.attributes, levels)], np.float32))
    reached = body.op("Cast", body.op("GreaterOrEqual", side, sides), to=TensorProto.FLOAT)
    # The first comparison holds unless the area is negative: such a box is on the first level too.
    level = body.op("ReduceSum", reached, body.ints(-1), keepdims=0)
    return body.op("Max", body.op("Sub", level, body.constant(1.0)), body.constant(0.0))


def usable_boxes(body: Body, boxes: str) -> str:
    """Append the nodes that move boxes `[..., 4]` with unusable coordinates to where nothing is."""
    reach = body.op("ReduceSum", body.op("Abs", boxes), body.ints(-1), keepdims=1)
    near = body.op("LessOrEqual", reach, body.constant(_FARTHEST))
    return body.op("Where", near, boxes, body.constant(_NOWHERE))


def feature_maps(body: Body, view: NodeView) -> list[str]:
    """Return the names of the feature maps as floats: INT8 ones are dequantised."""
    names = input_names(view)[1:]
    if view.input_types[1] != TensorProto.INT8:
        return names
    scale = body.constant(view.attributes["feature_scale"])
    # Without a zero point ONNX Runtime's optimiser takes INT8 for UINT8 when it moves the pair.
    zero = body.constant(0, np.int8)
    return [body.op("DequantizeLinear", name, scale, zero) for name in names]
