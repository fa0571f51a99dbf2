"""MultilevelRoIAlign for ONNX Runtime: RoIs sorted by level, so each is read from one map only.

Level i takes its own share of the boxes through `RoiAlign`; the shares are concatenated and one
Gather brings the rows back into order. Sampling every box on every level instead costs L times as
much. ONNX Runtime's `RoiAlign` takes the maximum of weighted corners, not of samples, so `mode`
"max" falls to the pluginless body, which is exact.
"""

import numpy as np
import onnx

from ..body import Body
from ..operator import NodeView
from . import pluginless
from .levels import assign_levels, input_names
from .schema import SCHEMA

__all__ = ["make_function"]


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the local function that ONNX Runtime inlines for this node."""
    if view.attributes["mode"] == "max":
        return pluginless.make_function(view)
    body = Body()
    (_, count, _), (_, channels, _, _) = view.input_shapes[:2]
    flat = body.op("Reshape", "boxes", body.ints(-1, 4))
    level = assign_levels(body, view, flat)
    shares, orders = [], []
    for index in range(len(view.input_shapes) - 1):
        share, order = _pool_share(body, view, flat, level, index, count)
        shares.append(share)
        orders.append(order)
    pooled = _restore_order(body, shares, orders)
    size = (view.attributes["output_height"], view.attributes["output_width"])
    shape = body.ints(-1, count, channels, *size)
    body.named("output", "Reshape", pooled, shape)
    return body.to_function(SCHEMA.name, view.overload, input_names(view), ["output"])


def _pool_share(
    body: Body, view: NodeView, flat: str, level: str, index: int, count: int
) -> tuple[str, str]:
    """Pool the boxes of one level; return the rows and their places in `flat`."""
    a = view.attributes
    here = body.op("Equal", level, body.constant(float(index)))
    order = body.op("Squeeze", body.op("NonZero", here), body.ints(0))
    rois = body.op("Gather", flat, order)
    picture = body.op("Div", order, body.constant(count, np.int64))
    mode = "half_pixel" if a["aligned"] else "output_half_pixel"
    share = body.op(
        "RoiAlign", f"level{index}", rois, picture,
        coordinate_transformation_mode=mode, mode="avg", sampling_ratio=a["sampling_ratio"],
        output_height=a["output_height"], output_width=a["output_width"],
        spatial_scale=float(a["spatial_scales"][index]),
    )  # fmt: skip
    return share, order


def _restore_order(body: Body, shares: list[str], orders: list[str]) -> str:
    """Concatenate the shares and put the rows back where their boxes were."""
    if len(shares) == 1:
        return shares[0]
    order = body.op("Concat", *orders, axis=0)
    size = body.op("Shape", order)
    length = body.op("Squeeze", size, body.ints(0))
    places = body.op("Range", body.constant(0, np.int64), length, body.constant(1, np.int64))
    inverse = body.op("ScatterElements", order, order, places, axis=0)
    return body.op("Gather", body.op("Concat", *shares, axis=0), inverse, axis=0)
