"""PasteMasks in standard operators, for ONNX Runtime and for TensorRT alike.

Both directions of the interpolation gather their two neighbours, and weigh them in float32 with
weights that are 0 outside the box. So ONNX Runtime rounds every pixel as the definition says, and
TensorRT, which may contract a product and a sum, within an ulp; as MatMuls, it would be free to
round the operands to TF32.
"""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto

from ...core.masks import MaskPaste
from ..body import Body
from ..operator import NodeView
from .schema import FARTHEST

__all__ = ["make_function"]

# What bits 0 to 15 and 16 to 31 of a word count for, exactly in float32; bit 31 counts negatively.
_HALVES = np.tile(2.0 ** np.arange(16), (2, 1))
_HALVES[1, 15] *= -1


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the local function of this node."""
    body = Body()
    a, side = view.attributes, view.input_shapes[0][-1]
    words = -(-a["width"] // 32)
    columns = words * 32 if a["packed"] else a["width"]
    paste = MaskPaste(a["paste"])
    truncates = paste is MaskPaste.TORCHVISION
    corners = _truncated(body, (side + 2) / side) if truncates else _usable(body, "boxes")
    axis = _truncated_axis if truncates else _sampled_axis
    source = body.op("Cast", "probabilities", to=TensorProto.FLOAT)
    source = body.op("Pad", source, body.ints(0, 0, 1, 1, 0, 0, 1, 1))
    turned = body.op("Transpose", source, perm=[0, 1, 3, 2])
    x, y = (tuple(body.slice_last(corners, i, i + 1) for i in (k, k + 2)) for k in (0, 1))
    across = _resample(body, turned, axis(body, x, (a["width"], columns), side))
    across = body.op("Transpose", across, perm=[0, 1, 3, 2])
    value = _resample(body, across, axis(body, y, (a["height"], a["height"]), side))
    limit = body.constant(paste.exceeded(a["threshold"]))
    pixels = body.op("Cast", body.op("Greater", value, limit), to=TensorProto.FLOAT)
    if a["packed"]:
        size = (view.input_shapes[0][1], a["height"], words)
        _pack(body, pixels, size)
    else:
        body.named("masks", "Cast", pixels, to=TensorProto.UINT8)
    return body.to_function(view.function, ["probabilities", "boxes"], ["masks"])


class _Axis(NamedTuple):
    """Names of what `[B, N, pixels]` see: two source pixels, the weight of the second, whether."""

    low: str
    high: str
    weight: str
    inside: str


def _truncated(body: Body, scale: float) -> str:
    """Return torchvision's widened, truncated boxes `[B, N, 4]`; see `_usable`."""
    low, high = body.slice_last("boxes", 0, 2), body.slice_last("boxes", 2, 4)
    half = body.op("Mul", body.op("Sub", high, low), body.constant(0.5))
    half = body.op("Mul", half, body.constant(scale))
    centre = body.op("Mul", body.op("Add", high, low), body.constant(0.5))
    corners = body.op("Concat", body.op("Sub", centre, half), body.op("Add", centre, half), axis=-1)
    usable = _usable(body, corners)
    return body.op("Mul", body.op("Sign", usable), body.op("Floor", body.op("Abs", usable)))


def _usable(body: Body, corners: str) -> str:
    """Return `corners [B, N, 4]`, and (0, 0, -1, -1) for a box with one too far or no number."""
    distance = body.op("Abs", corners)
    # Less is false for NaN, so nothing that is no number gets past here.
    near = body.op("Cast", body.op("Less", distance, body.constant(FARTHEST)), to=TensorProto.FLOAT)
    usable = body.op("Greater", body.op("ReduceMin", near, body.ints(-1)), body.constant(0.5))
    return body.op("Where", usable, corners, body.constant([0, 0, -1, -1]))


def _truncated_axis(body: Body, ends: tuple[str, ...], size: tuple[int, int], side: int) -> _Axis:
    """Return what torchvision's pixels see.

    Args:
        body: the function under construction.
        ends: `[B, N, 1]`, first and last pixel of each box.
        size: pixels of the picture along this axis, and pixels to make; those beyond are 0.
        side: M.
    """
    (first, last), source = ends, side + 2
    pixel = body.constant(np.arange(size[1]))
    position = body.op("Sub", pixel, first)
    length = body.op("Add", body.op("Sub", last, first), body.constant(1))
    scale = body.op("Div", body.constant(source), body.op("Max", length, body.constant(1)))
    at = body.op("Mul", body.op("Add", position, body.constant(0.5)), scale)
    at = body.op("Max", body.op("Sub", at, body.constant(0.5)), body.constant(0))
    end = body.constant(source - 1)
    low = body.op("Min", body.op("Floor", at), end)
    high = body.op("Min", body.op("Add", low, body.constant(1)), end)
    last = body.op("Min", last, body.constant(size[0] - 1))
    inside = body.op(
        "And",
        body.op("GreaterOrEqual", position, body.constant(0)),
        body.op("LessOrEqual", pixel, last),
    )
    return _Axis(low, high, body.op("Sub", at, low), inside)


def _sampled_axis(body: Body, ends: tuple[str, ...], size: tuple[int, int], side: int) -> _Axis:
    """Return what detectron2's pixels see; arguments as `_truncated_axis`, `ends` in pixels."""
    low, high = ends
    extent = body.op("Sub", high, low)
    real = body.op("Greater", extent, body.constant(0))
    extent = body.op("Where", real, extent, body.constant(1))
    offset = body.op("Sub", body.constant(np.arange(size[1]) + 0.5), low)
    grid = body.op("Mul", body.op("Div", offset, extent), body.constant(2))
    at = body.op("Add", body.op("Sub", grid, body.constant(1)), body.constant(1))
    at = body.op("Sub", body.op("Mul", at, body.constant(side / 2)), body.constant(0.5))
    inside = body.op(
        "And",
        body.op("Greater", at, body.constant(-1)),
        body.op("Less", at, body.constant(side)),
    )
    shown = body.constant(np.arange(size[1]) < size[0], bool)
    usable = body.op("And", real, shown)
    below = body.op("Floor", at)
    first = body.op("Add", below, body.constant(1))  # in the ring
    first = body.op("Max", body.op("Min", first, body.constant(side)), body.constant(0))
    second = body.op("Add", first, body.constant(1))
    return _Axis(first, second, body.op("Sub", at, below), body.op("And", inside, usable))


def _resample(body: Body, data: str, axis: _Axis) -> str:
    """Resample `data [B, N, S, K]` along its third axis to `[B, N, pixels, K]`."""
    rest = body.op("Sub", body.constant(1), axis.weight)
    first = _weigh(body, data, axis.low, rest, axis.inside)
    second = _weigh(body, data, axis.high, axis.weight, axis.inside)
    return str(body.op("Add", first, second))


def _weigh(body: Body, data: str, index: str, weight: str, inside: str) -> str:
    """Return `data[b, n, index] · weight`: `[B, N, pixels, K]`, zero where not `inside`."""
    place = body.op("Unsqueeze", body.op("Cast", index, to=TensorProto.INT64), body.ints(3))
    rows = body.op("GatherND", data, place, batch_dims=2)
    weight = body.op("Where", inside, weight, body.constant(0))
    return body.op("Mul", rows, body.op("Unsqueeze", weight, body.ints(3)))


def _pack(body: Body, pixels: str, size: tuple[int, int, int]) -> None:
    """Append the nodes that make `masks` of `pixels`, float 0 and 1 `[B, N, H, words · 32]`."""
    bits = body.op("Reshape", pixels, body.ints(-1, *size, 2, 16))
    weighed = body.op("Mul", bits, body.constant(_HALVES))
    halves = body.op("ReduceSum", weighed, body.ints(5), keepdims=0)
    halves = body.op("Cast", halves, to=TensorProto.INT32)
    low, high = body.slice_last(halves, 0, 1), body.slice_last(halves, 1, 2)
    high = body.op("Mul", high, body.constant(65536, np.int32))
    body.named("masks", "Squeeze", body.op("Add", high, low), body.ints(4))
