"""MultilevelRoIAlign without RoiAlign and NonZero: GridSample on every level, then a selection.

TensorRT-RTX parses and builds it on a machine without a GPU. The sampling points of a bin lie
evenly in it, so GridSample on a `h·r x w·r` grid followed by an `r x r` pooling is RoIAlign.
Samples outside [-1, size] are zeroed by a mask, as GridSample's border mode would repeat the
edge.
"""

import numpy as np
import onnx

from ...core import UnsupportedTargetError
from ..body import Body
from ..operator import NodeView
from .adaptive import axis_weights, pool_by_products
from .levels import assign_levels, feature_maps, input_names, usable_boxes
from .schema import SCHEMA

__all__ = ["make_function"]


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the body in operators that every TensorRT parses.

    Raises:
        UnsupportedTargetError: `sampling_ratio` 0 with `mode` "max".
    """
    if view.attributes["sampling_ratio"] == 0 and view.attributes["mode"] == "max":
        raise UnsupportedTargetError(
            "MultilevelRoIAlign with sampling_ratio 0 and mode 'max' takes a maximum over a number "
            "of samples that depends on the data, which no TensorRT graph without plugins can "
            "hold: export with mode 'avg' or sampling_ratio 2, or choose the target cpu."
        )
    body = Body()
    boxes = usable_boxes(body, "boxes")
    level = assign_levels(body, view, boxes)
    total = ""
    for index, feature in enumerate(feature_maps(body, view)):
        pooled = _pool_level(body, view, boxes, index, feature)
        mine = body.op("Equal", level, body.constant(float(index)))
        mine = body.op("Unsqueeze", mine, body.ints(2, 3, 4))
        zero = body.op("CastLike", body.constant(0.0), pooled)
        total = body.op("Where", mine, pooled, total or zero)
    body.named("output", "Identity", total)
    return body.to_function(SCHEMA.name, view.overload, input_names(view), ["output"])


def _pool_level(body: Body, view: NodeView, boxes: str, index: int, feature: str) -> str:
    """Pool every box from one level: `[B, N, C, h, w]`."""
    a, ratio = view.attributes, view.attributes["sampling_ratio"]
    count = view.input_shapes[0][1]
    _, channels, height, width = view.input_shapes[1 + index]
    scale = float(a["spatial_scales"][index])
    h, w = a["output_height"], a["output_width"]
    if ratio == 0:
        columns = axis_weights(body, boxes, 0, scale, a["aligned"], w, width)
        rows = axis_weights(body, boxes, 1, scale, a["aligned"], h, height)
        return pool_by_products(body, feature, rows, columns, (count, channels, h, w, width))
    x, x_inside = _axis(body, boxes, 0, scale, a["aligned"], w * ratio, width)
    y, y_inside = _axis(body, boxes, 1, scale, a["aligned"], h * ratio, height)
    grid = _grid(body, x, y, (count, h * ratio, w * ratio))
    grid = body.op("CastLike", grid, feature)
    sampled = body.op("GridSample", feature, grid, mode="bilinear",
                      padding_mode="border", align_corners=1)  # fmt: skip
    inside = body.op(
        "And",
        body.op("Unsqueeze", y_inside, body.ints(3)),
        body.op("Unsqueeze", x_inside, body.ints(2)),
    )
    inside = body.op("Reshape", inside, body.ints(-1, 1, count * h * ratio, w * ratio))
    sampled = body.op("Mul", sampled, body.op("CastLike", inside, sampled))
    pool = "MaxPool" if a["mode"] == "max" else "AveragePool"
    pooled = body.op(pool, sampled, kernel_shape=[ratio, ratio], strides=[ratio, ratio])
    rows = body.op("Reshape", pooled, body.ints(-1, channels, count, h, w))
    return body.op("Transpose", rows, perm=[0, 2, 1, 3, 4])


def _axis(
    body: Body, boxes: str, axis: int, scale: float, aligned: int, points: int, size: int
) -> tuple[str, str]:
    """Sampling coordinates of one axis in [-1, 1], and whether each counts: `[B, N, points]`."""
    start = body.op("Mul", body.slice_last(boxes, axis, axis + 1), body.constant(scale))
    stop = body.op("Mul", body.slice_last(boxes, axis + 2, axis + 3), body.constant(scale))
    extent = body.op("Sub", stop, start)
    if aligned:
        start = body.op("Sub", start, body.constant(0.5))
    else:
        extent = body.op("Max", extent, body.constant(1.0))
    steps = (np.arange(points, dtype=np.float32) + 0.5) / points
    pixel = body.op("Add", start, body.op("Mul", extent, body.constant(steps)))
    inside = body.op(
        "And",
        body.op("GreaterOrEqual", pixel, body.constant(-1.0)),
        body.op("LessOrEqual", pixel, body.constant(float(size))),
    )
    # align_corners=1 maps pixel centres 0 … size-1 to -1 … 1; a single pixel needs no coordinate.
    clipped = body.op("Clip", pixel, body.constant(0.0), body.constant(float(size - 1)))
    half = max(size - 1, 1) / 2
    scaled = body.op("Mul", clipped, body.constant(1.0 / half))
    return body.op("Sub", scaled, body.constant(1.0)), inside


def _grid(body: Body, x: str, y: str, shape: tuple[int, int, int]) -> str:
    """Join coordinates `[B, N, kx]` and `[B, N, ky]` to a sampling grid `[B, N·ky, kx, 2]`."""
    count, rows, columns = shape
    full = body.ints(1, count, rows, columns, 1)
    across = body.op("Expand", body.op("Unsqueeze", x, body.ints(2, 4)), full)
    down = body.op("Expand", body.op("Unsqueeze", y, body.ints(3, 4)), full)
    grid = body.op("Concat", across, down, axis=-1)
    return body.op("Reshape", grid, body.ints(-1, count * rows, columns, 2))
