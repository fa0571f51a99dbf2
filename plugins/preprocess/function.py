"""Preprocess in standard operators, for ONNX Runtime and for TensorRT alike.

The picture's size is static, so the weights are constants. A pass is a batch of matrix products:
each group of output pixels has a window of source pixels of its own, and weights that are 0 outside
their taps. With 22-bit weights a product would not be exact in float32, so the weights are split
into parts of p bits,

    w = sum over i of w_i · 2^(p i),      S_i = sum over taps of w_i · pixel < 2²⁴,

and the sums are joined by nested floors, each exact in float32 in any order of summation, and in
TF32, whose operands have 11 bits:

    round(S / 2²²) = floor((S_top + floor(… floor(S_0 / 2^p) …) + 2^(r-1)) / 2^r),  r = 22 - p top.
"""

import numpy as np
import onnx
from onnx import TensorProto

from ...core import UnsupportedTargetError
from ..body import Body
from ..operator import NodeView
from .resample import PRECISION_BITS, Taps, placed_size, resampling_taps

__all__ = ["make_function"]

_MOST = 32  # output pixels that share a window
_OPERAND_BITS = 11  # TF32's significand
_EXACT = 1 << 24  # integers below it are exact in float32


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the local function of this node.

    Raises:
        UnsupportedTargetError: a picture that shrinks so much that its sums are not exact.
    """
    body = Body()
    a = view.attributes
    height, width, _ = view.input_shapes[0]
    rows, columns = placed_size((height, width), (a["height"], a["width"]))
    pixels = body.op("Cast", "image", to=TensorProto.FLOAT)
    pixels = body.op("Transpose", pixels, perm=[2, 0, 1])
    if columns != width:
        pixels = _resample(body, pixels, (height, width), columns)
    if rows != height:
        turned = body.op("Transpose", pixels, perm=[0, 2, 1])
        turned = _resample(body, turned, (columns, height), rows)
        pixels = body.op("Transpose", turned, perm=[0, 2, 1])
    pixels = _fill(body, pixels, (a["height"] - rows, a["width"] - columns), a["pad_value"])
    centred = body.op("Sub", pixels, _channels(body, a["mean"]))
    normalised = body.op("Div", centred, _channels(body, a["std"]))
    batch = body.op("Unsqueeze", normalised, body.ints(0))
    body.named("tensor", "Cast", batch, to=TensorProto.FLOAT16 if a["half"] else TensorProto.FLOAT)
    return body.to_function(view.function, ["image"], ["tensor"])


def _channels(body: Body, values: tuple[float, ...]) -> str:
    return body.constant(np.reshape(values, (3, 1, 1)))


def _fill(body: Body, pixels: str, missing: tuple[int, int], pad_value: tuple[float, ...]) -> str:
    """Append `missing` rows and columns of filling to `pixels [3, h, w]`, which are 0 to 255."""
    if missing == (0, 0):
        return pixels
    padded = body.op("Pad", pixels, body.ints(0, 0, 0, 0, *missing), body.constant(-1.0))
    beyond = body.op("Less", padded, body.constant(0.0))
    return body.op("Where", beyond, _channels(body, pad_value), padded)


def _resample(body: Body, data: str, size: tuple[int, int], outputs: int) -> str:
    """Resample whole numbers of 0 to 255, float `[3, *size]`, to `[3, size[0], outputs]`."""
    lines, source = size
    places, weights = _windows(resampling_taps(source, outputs), source)
    bits, parts = _split(weights)
    groups, span, group = weights.shape
    picked = body.op("Gather", data, body.constant(places.ravel(), np.int64), axis=2)
    windows = body.op("Reshape", picked, body.ints(3 * lines, groups, span))
    windows = body.op("Transpose", windows, perm=[1, 0, 2])
    sums = body.op("MatMul", windows, body.constant(np.concatenate(parts, axis=2)))
    rounded = _join(body, sums, bits, (len(parts), group))
    joined = body.op("Transpose", rounded, perm=[1, 0, 2])
    joined = body.op("Reshape", joined, body.ints(3, lines, groups * group))
    return body.slice_last(joined, 0, outputs)


def _windows(taps: Taps, source: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each group's source pixels `[groups, span]` and weights `[groups, span, group]`."""
    first, weights = taps
    outputs, most = weights.shape
    group = min(_MOST, outputs)
    output, tap = np.arange(outputs)[:, None], np.arange(most)
    start = first[::group]
    offset = first[:, None] - start[output // group] + tap
    used = weights > 0
    span = int(offset[used].max()) + 1
    matrix = np.zeros((len(start), span, group), np.int64)
    where = np.broadcast_arrays(output // group, offset, output % group)
    matrix[tuple(index[used] for index in where)] = weights[used]
    return np.minimum(start[:, None] + np.arange(span), source - 1), matrix


def _split(weights: np.ndarray) -> tuple[int, list[np.ndarray]]:
    """Return p and the fewest parts, lowest first, whose sums are exact in float32."""
    for count in range(2, PRECISION_BITS + 1):
        bits = -(-PRECISION_BITS // count)
        if bits > _OPERAND_BITS or bits * (count - 1) >= PRECISION_BITS:
            continue
        parts = [weights >> (bits * i) & ((1 << bits) - 1) for i in range(count - 1)]
        parts.append(weights >> (bits * (count - 1)))
        if _is_exact(bits, parts):
            return bits, parts
    raise UnsupportedTargetError(
        "Preprocess shrinks the picture so much that its sums are not exact: shrink it before, or "
        "choose a larger canvas."
    )


def _is_exact(bits: int, parts: list[np.ndarray]) -> bool:
    """Whether no part's sum, with what is carried into it and the half, reaches 2²⁴."""
    largest, half = 0, 1 << (_OPERAND_BITS - 1)
    for part in parts:
        largest = 255 * int(part.sum(axis=1).max()) + (largest >> bits) + half
        if largest >= _EXACT:
            return False
    return True


def _join(body: Body, sums: str, bits: int, parts: tuple[int, int]) -> str:
    """Join sums `[groups, lines, count · group]` to whole pixels `[groups, lines, group]`."""
    count, group = parts
    shares = [body.slice_last(sums, i * group, (i + 1) * group) for i in range(count)]
    total = shares[0]
    for share in shares[1:]:
        total = body.op("Add", share, _floor_shift(body, total, bits))
    shift = PRECISION_BITS - bits * (count - 1)
    half = body.constant(2.0 ** (shift - 1))
    pixels = _floor_shift(body, body.op("Add", total, half), shift)
    return body.op("Min", pixels, body.constant(255.0))


def _floor_shift(body: Body, values: str, bits: int) -> str:
    return body.op("Floor", body.op("Mul", values, body.constant(2.0**-bits)))
