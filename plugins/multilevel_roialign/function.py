"""MultilevelRoIAlign for ONNX Runtime: RoIs sorted by level, so each is read from one map only.

Level i takes its own share of the boxes through `RoiAlign`; the shares are concatenated and one
Gather brings the rows back into order. Sampling every box on every level instead costs L times
as much. Two rearrangements change no bit of the result, and suit a processor's caches:

* the boxes of a share are visited by place, in bands of rows, so neighbours share feature rows;
* channels are split into G groups by a reshape `[B, C, H, W] -> [B·G, C/G, H, W]`, with each box
  once a group, so what one box reads of one group stays in cache.

ONNX Runtime's `RoiAlign` takes the maximum of weighted corners, not of samples, so `mode` "max"
falls to the pluginless body, which is exact.
"""

import numpy as np
import onnx

from ..body import Body
from ..operator import NodeView
from . import pluginless
from .levels import assign_levels, feature_maps, input_names, usable_boxes

__all__ = ["make_function"]

_MOST_GROUPS = 8
_BAND_ROWS = 16  # feature rows a band
_FAR = 2.0**15  # more than x0 + x1 of any input


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the local function that ONNX Runtime inlines for this node."""
    if view.attributes["mode"] == "max":
        return pluginless.make_function(view)
    body = Body()
    (_, count, _), (_, channels, _, _) = view.input_shapes[:2]
    flat = usable_boxes(body, body.op("Reshape", "boxes", body.ints(-1, 4)))
    level = assign_levels(body, view, flat)
    shares, orders = [], []
    for index, feature in enumerate(feature_maps(body, view)):
        share, order = _pool_share(body, view, flat, level, (index, feature))
        shares.append(share)
        orders.append(order)
    pooled = _restore_order(body, shares, orders)
    size = (view.attributes["output_height"], view.attributes["output_width"])
    shape = body.ints(-1, count, channels, *size)
    body.named("output", "Reshape", pooled, shape)
    return body.to_function(view.function, input_names(view), ["output"])


def _pool_share(
    body: Body, view: NodeView, flat: str, level: str, source: tuple[int, str]
) -> tuple[str, str]:
    """Pool the boxes of one level; return the rows and their places, both by box and group."""
    a, (index, feature), count = view.attributes, source, view.input_shapes[0][1]
    _, channels, height, width = view.input_shapes[1 + index]
    groups = next(g for g in (_MOST_GROUPS, 4, 2, 1) if channels % g == 0)
    here = body.op("Equal", level, body.constant(float(index)))
    found = body.op("Squeeze", body.op("NonZero", here), body.ints(0))
    scale = float(a["spatial_scales"][index])
    order = _by_place(body, body.op("Gather", flat, found), found, scale)
    rois = body.op("Tile", body.op("Gather", flat, order), body.ints(groups, 1))
    picture = body.op("Div", order, body.constant(count, np.int64))
    size = body.ints(-1, channels // groups, height, width)
    share = body.op(
        "RoiAlign", body.op("Reshape", feature, size), rois,
        _times_groups(body, picture, groups),
        coordinate_transformation_mode="half_pixel" if a["aligned"] else "output_half_pixel",
        mode="avg", sampling_ratio=a["sampling_ratio"], output_height=a["output_height"],
        output_width=a["output_width"], spatial_scale=scale,
    )  # fmt: skip
    return share, _times_groups(body, order, groups)


def _by_place(body: Body, rois: str, order: str, scale: float) -> str:
    """Return `order [n]` sorted by the rois' centres: bands of rows first, then left to right."""
    x0, y0, x1, y1 = (body.slice_last(rois, i, i + 1) for i in range(4))
    band = body.op("Mul", body.op("Add", y0, y1), body.constant(scale / (2 * _BAND_ROWS)))
    key = body.op("Add", body.op("Mul", body.op("Floor", band), body.constant(_FAR)),
                  body.op("Add", x0, x1))  # fmt: skip
    key = body.op("Squeeze", key, body.ints(1))
    _, place = body.op("TopK", key, body.op("Shape", order), outputs=2, largest=0)
    return body.op("Gather", order, place)


def _times_groups(body: Body, rows: str, groups: int) -> str:
    """Return `rows [n]` as `[groups · n]`: row r of group g becomes r · groups + g."""
    group = body.constant(np.arange(groups)[:, None], np.int64)
    wide = body.op("Mul", body.op("Unsqueeze", rows, body.ints(0)), body.constant(groups, np.int64))
    return body.op("Reshape", body.op("Add", wide, group), body.ints(-1))


def _restore_order(body: Body, shares: list[str], orders: list[str]) -> str:
    """Concatenate the shares and put the rows back where their boxes were."""
    order = body.op("Concat", *orders, axis=0)
    size = body.op("Shape", order)
    length = body.op("Squeeze", size, body.ints(0))
    places = body.op("Range", body.constant(0, np.int64), length, body.constant(1, np.int64))
    inverse = body.op("ScatterElements", order, order, places, axis=0)
    return body.op("Gather", body.op("Concat", *shares, axis=0), inverse, axis=0)
