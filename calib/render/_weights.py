"""Weights as 8-bit constants with a DequantizeLinear; the integers are the same in every rendering.

A weight that several layers share (an RPN head runs on every level) is stored once.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...core.paired_products import product_rows
from ..graph import attribute
from ..layers import Layer
from ..scales import (
    LARGEST_FP8,
    LEVELS,
    bias_safe,
    channel_amax,
    fp16_representable,
    quantize_weight,
    symmetric_scale,
)
from ._edit import GraphEdit
from ._paired import paired_levels

__all__ = ["quantize_weights"]

_MIDDLE = 128


def quantize_weights(
    edit: GraphEdit,
    layers: Sequence[Layer],
    *,
    data_scales: Mapping[str, float] | None = None,
    half: bool = False,
    fp8: bool = False,
    per_tensor: bool = False,
    for_host: bool = False,
) -> dict[str, np.ndarray]:
    """Let every layer of `layers` read a quantised weight through a DequantizeLinear.

    Args:
        edit: the graph.
        layers: the layers to change.
        data_scales: scales of their activation inputs, where biases are to fit into int32 on the
            grid data x weight; None if biases stay float.
        half: choose scales that are FP16 numbers.
        fp8: float8 E4M3 weights instead of int8.
        per_tensor: one scale for all of a weight instead of one for each output channel.
        for_host: for ONNX Runtime's kernels on any CPU: pairs of weights that fit into 16 bits
            (`_paired.py`), stored as uint8 with 128 added.

    Returns:
        Weight initializer -> its float32 scales, a scalar or one for each output channel.
    """
    users: dict[str, list[Layer]] = {}
    for layer in layers:
        users.setdefault(layer.weight, []).append(layer)
    found = {}
    for weight, sharing in users.items():
        array = edit.before.array(weight)
        axis = None if per_tensor else sharing[0].axis
        amax = channel_amax(array, axis) * (LEVELS / LARGEST_FP8 if fp8 else 1.0)
        scale = symmetric_scale(amax)
        for layer in sharing:
            scale = _widened(edit, layer, scale, data_scales)
        scale = fp16_representable(scale) if half else scale
        if fp8:
            dequantized = _dequantized_fp8(edit, weight, array, scale, axis)
        else:
            if for_host:
                levels, scale = _for_host(edit, sharing[0], array, scale, axis)
            else:
                levels = quantize_weight(array, scale, axis)
            zero_point = _MIDDLE if for_host else 0
            dequantized = _dequantized(edit, weight, levels, scale, axis, zero_point)
        for layer in sharing:
            edit.replace_input(edit.before.producers[layer.output], weight, dequantized)
        found[weight] = scale
    return found


def _for_host(
    edit: GraphEdit, layer: Layer, array: np.ndarray, scale: np.ndarray, axis: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return integer weights whose pairs fit into 16 bits, and their scales."""
    if axis is None or array.ndim < 2 or (layer.op_type == "Conv" and array.shape[1] == 1):
        return quantize_weight(array, scale, axis), scale  # depthwise kernels widen first
    transposed = bool(attribute(edit.before.producers[layer.output], "transB", 0))
    rows = product_rows(array, layer.op_type, transposed=transposed)
    levels, scale = paired_levels(rows, scale)
    if layer.op_type == "Conv":
        shape = (len(array), *array.shape[2:], array.shape[1])
        return np.ascontiguousarray(np.moveaxis(levels.reshape(shape), -1, 1)), scale
    return (levels if transposed else np.ascontiguousarray(levels.T)), scale


def _widened(
    edit: GraphEdit, layer: Layer, scale: np.ndarray, data_scales: Mapping[str, float] | None
) -> np.ndarray:
    """Return `scale`, wide enough for the layer's bias where that is to be int32."""
    if data_scales is None or layer.bias is None or layer.bias not in edit.before.constants:
        return scale
    bias = edit.before.array(layer.bias).reshape(-1)  # a Gemm's may be one row of a matrix
    if scale.ndim and bias.size not in (1, scale.size):
        return scale
    return bias_safe(scale, bias, data_scales[layer.data])


def _dequantized(
    edit: GraphEdit,
    weight: str,
    levels: np.ndarray,
    scale: np.ndarray,
    axis: int | None,
    zero_point: int,
) -> str:
    """Add the constants and the DequantizeLinear; return its output."""
    kind = np.dtype(np.uint8 if zero_point else np.int8)
    stored = (levels.astype(np.int16) + zero_point).astype(kind)
    inputs = [
        edit.constant(f"{weight}_{kind.name}", stored),
        edit.constant(f"{weight}_scale", scale),
        edit.constant(f"{weight}_zero_point", np.full(scale.shape, zero_point, kind)),
    ]
    name = edit.fresh(f"{weight}_dequantized")
    return edit.node("DequantizeLinear", inputs, name, axis=0 if axis is None else axis)


def _dequantized_fp8(
    edit: GraphEdit, weight: str, array: np.ndarray, scale: np.ndarray, axis: int | None
) -> str:
    """Do the same with float8 constants."""
    along = [-1 if index == axis else 1 for index in range(array.ndim)]
    steps = array / (scale.reshape(along) if scale.ndim else scale)
    inputs = [
        edit.fp8_constant(f"{weight}_fp8", np.clip(steps, -LARGEST_FP8, LARGEST_FP8)),
        edit.constant(f"{weight}_scale", scale),
        edit.fp8_constant(f"{weight}_zero_point", np.zeros(scale.shape, np.float32)),
    ]
    name = edit.fresh(f"{weight}_dequantized")
    return edit.node("DequantizeLinear", inputs, name, axis=0 if axis is None else axis)
