"""MultilevelRoIAlign with `sampling_ratio` 0 and no plugin: two matrix products a box and level.

Averaging n bilinear samples a bin along an axis is linear in the feature map, so

    pooled = Wy · map · Wx^T,   Wy[i, y] = 1/n · sum over k of hat(y - p_k),   p_k = p_0 + k · d,

whatever n is. The spacing d = bin / ceil(bin) of samples lies above one half, so at most four of
them are within a pixel of y: those are looked at, and no size depends on the data. The price is a
tensor `[B, N, h, C, W]` for each level.
"""

import numpy as np
from onnx import TensorProto

from ..body import Body

__all__ = ["axis_weights", "pool_by_products"]

_NEAR = 5  # four samples, and one for the rounding of the first one's index


def axis_weights(
    body: Body, boxes: str, axis: int, scale: float, aligned: int, bins: int, size: int
) -> str:
    """Return the weights `[B, N, bins, size]` of one axis (0 is x) of `boxes [B, N, 4]`."""
    low = body.op("Mul", body.slice_last(boxes, axis, axis + 1), body.constant(scale))
    high = body.op("Mul", body.slice_last(boxes, axis + 2, axis + 3), body.constant(scale))
    extent = body.op("Sub", high, low)
    if aligned:
        low = body.op("Sub", low, body.constant(0.5))
    else:
        extent = body.op("Max", extent, body.constant(1.0))
    bin_size = body.op("Div", extent, body.constant(float(bins)))
    samples = body.op("Ceil", bin_size)
    some = body.op("Max", samples, body.constant(1.0))  # none where a side is not positive
    step = body.op("Div", bin_size, some)
    starts = body.op(
        "Add", low, body.op("Mul", bin_size, body.constant(np.arange(bins, dtype=np.float32)))
    )
    first = body.op("Add", starts, body.op("Mul", step, body.constant(0.5)))
    # From here on [B, N, bins, size, 5]: five samples for each pixel of each bin.
    first, step, samples = (
        body.op("Unsqueeze", t, body.ints(3, 4)) for t in (first, step, samples)
    )
    pixel = body.constant(np.arange(size, dtype=np.float32).reshape(1, 1, 1, size, 1))
    before = body.op("Sub", body.op("Sub", pixel, body.constant(1.0)), first)
    safe_step = body.op("Max", step, body.constant(1e-6))
    nearest = body.op("Ceil", body.op("Div", before, safe_step))
    nearest = body.op("Max", nearest, body.constant(0.0))
    number = body.op("Add", nearest, body.constant(np.arange(_NEAR, dtype=np.float32)))
    point = body.op("Add", first, body.op("Mul", number, step))
    inside = body.op("LessOrEqual", body.op("Abs", body.op("Sub", point, body.constant(
        (size - 1) / 2))), body.constant((size + 1) / 2))  # fmt: skip
    real = body.op("And", inside, body.op("Less", number, samples))
    clamped = body.op("Clip", point, body.constant(0.0), body.constant(float(size - 1)))
    distance = body.op("Abs", body.op("Sub", pixel, clamped))
    hat = body.op("Max", body.op("Sub", body.constant(1.0), distance), body.constant(0.0))
    hat = body.op("Mul", hat, body.op("Cast", real, to=TensorProto.FLOAT))
    total = body.op("ReduceSum", hat, body.ints(4), keepdims=0)
    return body.op("Div", total, body.op("Unsqueeze", some, body.ints(3)))


def pool_by_products(
    body: Body, feature: str, rows: str, columns: str, shape: tuple[int, int, int, int, int]
) -> str:
    """Return `rows · map · columns^T` for every box: `[B, N, C, h, w]`.

    Args:
        body: the function under construction.
        feature: the map `[B, C, H, W]`.
        rows: weights `[B, N, h, H]`.
        columns: weights `[B, N, w, W]`.
        shape: `(N, C, h, w, W)`.
    """
    count, channels, h, w, width = shape
    rows, columns = (body.op("CastLike", weights, feature) for weights in (rows, columns))
    by_row = body.op("Transpose", feature, perm=[0, 2, 1, 3])
    by_row = body.op("Reshape", by_row, body.ints(0, 0, channels * width))
    tall = body.op("Reshape", rows, body.ints(0, count * h, -1))
    across = body.op("MatMul", tall, by_row)
    across = body.op("Reshape", across, body.ints(-1, count, h * channels, width))
    pooled = body.op("MatMul", across, body.op("Transpose", columns, perm=[0, 1, 3, 2]))
    pooled = body.op("Reshape", pooled, body.ints(-1, count, h, channels, w))
    return body.op("Transpose", pooled, perm=[0, 1, 3, 2, 4])
