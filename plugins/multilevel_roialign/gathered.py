"""MultilevelRoIAlign as four Gathers from one flattened pyramid: a box reads its own level alone.

With the maps of all levels side by side, `[C, B·S]` where S is the sum of Hi·Wi, pixel (y, x) of
picture b and level l lies at

    b·S + first_l + y·W_l + x.

A bilinear sample is four of those, so there are four Gathers, one a corner, each over all samples
of all bins of all boxes, weighted and added up. Level, coordinates and weights are FP32 whatever
the type of the features, and places are integers. TensorRT-RTX makes one kernel of all of it, which
reads the features in their own type and keeps no sample in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from ..body import Body
from ..operator import NodeView
from .levels import input_names

__all__ = ["pool_by_gathers"]

_UNROLLED = 3  # up to so many an axis are added inside the kernel; more would take minutes to build


@dataclass(frozen=True)
class _Neighbour:
    """The lower or the upper neighbours of the samples along one axis, each `[B, N, bins, r]`."""

    place: str  # int32, pixels
    weight: str  # FP32, 0 for samples that do not count


@dataclass(frozen=True)
class _Levels:
    """Of each box's level, `[B, N, 1, 1]`: FP32 `scale` and `sizes`, int32 `width`, `first`."""

    scale: str
    sizes: tuple[str, str]  # of x and y
    width: str
    first: str


def pool_by_gathers(body: Body, view: NodeView, boxes: str, level: str) -> str:
    """Append the nodes that pool `boxes [B, N, 4]` from `level [B, N]`: `[B, N, C, h, w]`."""
    a, (batch, count, _) = view.attributes, view.input_shapes[0]
    h, w, ratio = a["output_height"], a["output_width"], a["sampling_ratio"]
    pyramid, channels = _flat_pyramid(body, view), view.input_shapes[1][1]
    levels = _of_level(body, view, level)
    columns = _neighbours(body, boxes, (0, w, ratio), levels, a["aligned"])
    rows = _neighbours(body, boxes, (1, h, ratio), levels, a["aligned"])
    bins, samples = batch * count * h * w, ratio * ratio
    total = ""
    for row in rows:
        line = body.op("Add", levels.first, body.op("Mul", row.place, levels.width))
        for column in columns:
            place = _all_pairs(body, "Add", line, column.place)
            weight = _all_pairs(body, "Mul", row.weight, column.weight)
            weight = body.op("Reshape", weight, body.ints(1, bins, ratio, ratio))
            read = body.op("Reshape", place, body.ints(bins * samples))
            read = body.op("Gather", pyramid, read, axis=1)
            read = body.op("Cast", read, to=TensorProto.FLOAT)
            read = body.op("Reshape", read, body.ints(channels, bins, ratio, ratio))
            read = body.op("Mul", read, weight)
            total = body.op("Add", total, read) if total else read
    pooled = _of_bins(body, view, total)
    pooled = body.op("Reshape", pooled, body.ints(channels, batch, count, h, w))
    return body.op("Transpose", pooled, perm=[1, 2, 0, 3, 4])


def _flat_pyramid(body: Body, view: NodeView) -> str:
    """Return the maps side by side, picture by picture: `[C, B·S]`, of their own type."""
    names, shapes = input_names(view)[1:], view.input_shapes[1:]
    flat = [
        body.op("Reshape", name, body.ints(batch, channels, height * width))
        for name, (batch, channels, height, width) in zip(names, shapes, strict=True)
    ]
    pyramid = body.op("Concat", *flat, axis=2) if len(flat) > 1 else flat[0]
    by_channel = body.op("Transpose", pyramid, perm=[1, 0, 2])
    return body.op("Reshape", by_channel, body.ints(shapes[0][1], -1))


def _of_level(body: Body, view: NodeView, level: str) -> _Levels:
    """Look up what depends on a box's level."""
    (batch, count, _), shapes = view.input_shapes[0], view.input_shapes[1:]
    index = body.op("Cast", level, to=TensorProto.INT32)
    index = body.op("Reshape", index, body.ints(batch, count, 1, 1))

    def pick(values: Sequence[float], dtype: type = np.float32) -> str:
        return body.op("Gather", body.constant(np.array(values), dtype), index, axis=0)

    ends = np.cumsum([height * width for _, _, height, width in shapes])
    first = pick([0, *ends[:-1]], np.int32)
    if batch > 1:
        pictures = np.arange(batch).reshape(batch, 1, 1, 1) * ends[-1]
        first = body.op("Add", first, body.constant(pictures, np.int32))
    widths, heights = [s[3] for s in shapes], [s[2] for s in shapes]
    sizes = (pick(widths), pick(heights))
    scale = pick(list(view.attributes["spatial_scales"]))
    return _Levels(scale, sizes, pick(widths, np.int32), first)


def _neighbours(
    body: Body, boxes: str, axis: tuple[int, int, int], levels: _Levels, aligned: int
) -> tuple[_Neighbour, _Neighbour]:
    """Return the lower and upper neighbours along `axis`: 0 for x or 1, bins, samples a bin."""
    index, bins, ratio = axis
    size = levels.sizes[index]
    low_edge, high_edge = (
        body.op(
            "Mul",
            body.op("Unsqueeze", body.slice_last(boxes, i, i + 1), body.ints(3)),
            levels.scale,
        )
        for i in (index, index + 2)
    )
    extent = body.op("Sub", high_edge, low_edge)
    if aligned:
        low_edge = body.op("Sub", low_edge, body.constant(0.5))
    else:
        extent = body.op("Max", extent, body.constant(1.0))
    steps = (np.arange(bins * ratio, dtype=np.float32) + 0.5) / (bins * ratio)
    along = body.op("Mul", extent, body.constant(steps.reshape(bins, ratio)))
    pixel = body.op("Add", low_edge, along)
    inside = body.op(
        "And",
        body.op("GreaterOrEqual", pixel, body.constant(-1.0)),
        body.op("LessOrEqual", pixel, size),
    )
    counts = body.op("Cast", inside, to=TensorProto.FLOAT)
    last = body.op("Sub", size, body.constant(1.0))
    clipped = body.op("Min", body.op("Max", pixel, body.constant(0.0)), last)
    low = body.op("Floor", clipped)
    high = body.op("Min", body.op("Add", low, body.constant(1.0)), last)
    part = body.op("Sub", clipped, low)
    rest = body.op("Sub", body.constant(1.0), part)
    lower, upper = (
        _Neighbour(body.op("Cast", at, to=TensorProto.INT32), body.op("Mul", share, counts))
        for at, share in ((low, rest), (high, part))
    )
    return lower, upper


def _all_pairs(body: Body, op_type: str, rows: str, columns: str) -> str:
    """Combine `[B, N, h, r]` and `[B, N, w, r]` to `[B, N, h, w, r, r]`."""
    down = body.op("Unsqueeze", rows, body.ints(3, 5))
    across = body.op("Unsqueeze", columns, body.ints(2, 4))
    return body.op(op_type, down, across)


def _of_bins(body: Body, view: NodeView, samples: str) -> str:
    """Average or compare the samples `[C, B·N·h·w, r, r]` of each bin: `[C, B·N·h·w]`."""
    a, kind = view.attributes, view.input_types[1]
    ratio, largest = a["sampling_ratio"], a["mode"] == "max"
    step = "ReduceMax" if largest else "ReduceSum"
    axes = ((3,), (2,)) if ratio <= _UNROLLED else ((2, 3),)
    for axis in axes if ratio > 1 else ():
        samples = body.op(step, samples, body.ints(*axis), keepdims=0)
    factor = 1.0 if largest else 1.0 / ratio**2
    if kind == TensorProto.INT8:
        factor *= a["feature_scale"]
    if factor != 1.0:
        samples = body.op("Mul", samples, body.constant(factor))
    if kind == TensorProto.FLOAT16:
        samples = body.op("Cast", samples, to=TensorProto.FLOAT16)
    return samples
