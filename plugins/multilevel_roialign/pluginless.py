"""MultilevelRoIAlign without RoiAlign and NonZero, for backends that are to have no plugins.

A number of samples that is given is read by Gathers from the box's own level (`gathered.py`). With
`sampling_ratio` 0 the number depends on the data: every level pools every box by matrix products
(`adaptive.py`), and a selection follows.
"""

import onnx

from ...core import UnsupportedTargetError
from ..body import Body
from ..operator import NodeView
from .adaptive import axis_weights, pool_by_products
from .gathered import pool_by_gathers
from .levels import assign_levels, feature_maps, input_names, usable_boxes

__all__ = ["make_function"]


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the body in operators that every TensorRT parses.

    Raises:
        UnsupportedTargetError: `sampling_ratio` 0 with `mode` "max".
    """
    adaptive = view.attributes["sampling_ratio"] == 0
    if adaptive and view.attributes["mode"] == "max":
        raise UnsupportedTargetError(
            "MultilevelRoIAlign with sampling_ratio 0 and mode 'max' takes a maximum over a number "
            "of samples that depends on the data, which no TensorRT graph without plugins can "
            "hold: export with mode 'avg' or sampling_ratio 2, or choose the target cpu."
        )
    body = Body()
    boxes = usable_boxes(body, "boxes")
    level = assign_levels(body, view, boxes)
    pool = _pool_on_every_level if adaptive else pool_by_gathers
    body.named("output", "Identity", pool(body, view, boxes, level))
    return body.to_function(view.function, input_names(view), ["output"])


def _pool_on_every_level(body: Body, view: NodeView, boxes: str, level: str) -> str:
    """Pool every box from every level, and keep its own level's: `[B, N, C, h, w]`."""
    total = ""
    for index, feature in enumerate(feature_maps(body, view)):
        pooled = _pool_level(body, view, boxes, index, feature)
        mine = body.op("Equal", level, body.constant(float(index)))
        mine = body.op("Unsqueeze", mine, body.ints(2, 3, 4))
        zero = body.op("CastLike", body.constant(0.0), pooled)
        total = body.op("Where", mine, pooled, total or zero)
    return total


def _pool_level(body: Body, view: NodeView, boxes: str, index: int, feature: str) -> str:
    """Pool every box from one level by matrix products: `[B, N, C, h, w]`."""
    a, count = view.attributes, view.input_shapes[0][1]
    _, channels, height, width = view.input_shapes[1 + index]
    h, w, scale = a["output_height"], a["output_width"], float(a["spatial_scales"][index])
    columns = axis_weights(body, boxes, 0, scale, a["aligned"], w, width)
    rows = axis_weights(body, boxes, 1, scale, a["aligned"], h, height)
    return pool_by_products(body, feature, rows, columns, (count, channels, h, w, width))
