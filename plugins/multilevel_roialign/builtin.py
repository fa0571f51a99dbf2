"""MultilevelRoIAlign for TensorRT 8.5 and 8.6: one `ROIAlign_TRT` a level, and their sum.

Every level pools every box, but a box that belongs to another level is moved to where no sample
counts, so it costs no reads there and pools zeros: adding the levels up selects.

`ROIAlign_TRT` takes RoIs of its features' type. In FP16, coordinates above 1024 would move by whole
pixels, so features of another type are cast to FP32 and the result is cast back.

Differences from the definition:

* `mode` "max" is the maximum of weighted corners there, not of samples: refused.
* `aligned` with `sampling_ratio` 0: a box without area takes no sample, and the plugin divides 0 by
  0. Such boxes, and those with a side below 2^-16 + 2^-20 of their coordinates, which can vanish
  in the plugin's arithmetic, pool zeros here.
* Bins start at `x0·s - o` rounded to float32, as in torchvision, so results differ in last bits.

Source: NVIDIA/TensorRT, plugin/roiAlignPlugin, releases 8.5 and 8.6. Not yet run on a device.
"""

import numpy as np
import onnx
from onnx import TensorProto

from ...core import UnsupportedTargetError
from ..body import Body
from ..builtin import plugin_op, require_float32, to_function
from ..operator import NodeView
from .levels import assign_levels, input_names, usable_boxes
from .schema import SCHEMA

__all__ = ["make_function"]

_NOWHERE = (-1e6, -1e6, -1e6 + 16, -1e6 + 16)  # outside any map, and of an area in any case
_NO_LEVEL = -1.0


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the body in TensorRT 8's built-in plugins and operators that its parser takes.

    Raises:
        UnsupportedTargetError: `mode` "max", or boxes that are not FP32.
    """
    a, kind = view.attributes, view.input_types[1]
    if a["mode"] == "max":
        raise UnsupportedTargetError(
            "MultilevelRoIAlign with mode 'max' has no equal in TensorRT 8, whose ROIAlign_TRT "
            "takes the maximum of weighted corners instead of samples: export with mode 'avg' or "
            "choose a target with TensorRT 10 or later."
        )
    require_float32(view, SCHEMA.name, {0: "boxes"})
    body = Body()
    boxes = usable_boxes(body, "boxes")
    level = assign_levels(body, view, boxes)
    if a["aligned"] and a["sampling_ratio"] == 0:
        level = body.op("Where", _has_area(body, boxes), level, body.constant(_NO_LEVEL))
    total = ""
    for index, feature in enumerate(_float_maps(body, view)):
        pooled = _pool_level(body, view, (index, feature), boxes, level)
        total = body.op("Add", total, pooled) if total else pooled
    batch, count, _ = view.input_shapes[0]
    shape = body.ints(batch, count, view.input_shapes[1][1], a["output_height"], a["output_width"])
    if kind == TensorProto.FLOAT16:
        body.named("output", "Cast", body.op("Reshape", total, shape), to=kind)
    else:
        body.named("output", "Reshape", total, shape)
    return to_function(body, view, input_names(view), ["output"])


def _pool_level(body: Body, view: NodeView, source: tuple[int, str], boxes: str, level: str) -> str:
    """Pool every box from one level, zeros for those of others: `[B·N, C, h, w]`."""
    a, (index, feature) = view.attributes, source
    batch, count, _ = view.input_shapes[0]
    mine = body.op("Equal", level, body.constant(float(index)))
    mine = body.op("Unsqueeze", mine, body.ints(2))
    placed = body.op("Where", mine, boxes, body.constant(np.reshape(_NOWHERE, (1, 1, 4))))
    return plugin_op(
        body, "ROIAlign_TRT", feature,
        body.op("Reshape", placed, body.ints(batch * count, 4)),
        body.constant(np.repeat(np.arange(batch), count), np.int32),
        coordinate_transformation_mode=a["aligned"], mode=1, output_height=a["output_height"],
        output_width=a["output_width"], sampling_ratio=a["sampling_ratio"],
        spatial_scale=float(a["spatial_scales"][index]),
    )  # fmt: skip


def _has_area(body: Body, boxes: str) -> str:
    """Return bool `[B, N]`: both sides are there in float32 wherever the box lies."""
    sides = body.op("Sub", body.slice_last(boxes, 2, 4), body.slice_last(boxes, 0, 2))
    reach = body.op("ReduceSum", body.op("Abs", boxes), body.ints(2), keepdims=1)
    least = body.op("Mul", reach, body.constant(2.0**-20))
    least = body.op("Add", least, body.constant(2.0**-16))
    wide = body.op("Cast", body.op("Greater", sides, least), to=TensorProto.FLOAT)
    both = body.op("ReduceSum", wide, body.ints(2), keepdims=0)
    return body.op("Greater", both, body.constant(1.5))


def _float_maps(body: Body, view: NodeView) -> list[str]:
    """Return the names of the feature maps in FP32."""
    names, kind = input_names(view)[1:], view.input_types[1]
    if kind == TensorProto.FLOAT:
        return names
    if kind == TensorProto.FLOAT16:
        return [body.op("Cast", name, to=TensorProto.FLOAT) for name in names]
    # Its parser insists on a zero point.
    scale, zero = body.constant(view.attributes["feature_scale"]), body.constant(0, np.int8)
    return [body.op("DequantizeLinear", name, scale, zero) for name in names]
