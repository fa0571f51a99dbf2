"""Weights as int8 constants with a DequantizeLinear, the same in every rendering.

A weight that several layers share (an RPN head runs on every level) is stored once.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ..layers import Layer
from ..scales import bias_safe, channel_amax, fp16_representable, quantize_weight, symmetric_scale
from ._edit import GraphEdit

__all__ = ["quantize_weights"]


def quantize_weights(
    edit: GraphEdit,
    layers: Sequence[Layer],
    *,
    data_scales: Mapping[str, float] | None = None,
    half: bool = False,
) -> dict[str, np.ndarray]:
    """Let every layer of `layers` read an int8 weight through a DequantizeLinear.

    Args:
        edit: the graph.
        layers: the layers to change.
        data_scales: scales of their activation inputs, where biases are to fit into int32 on the
            grid data x weight; None if biases stay float.
        half: choose scales that are FP16 numbers.

    Returns:
        Weight initializer -> its float32 scales, a scalar or one for each output channel.
    """
    users: dict[str, list[Layer]] = {}
    for layer in layers:
        users.setdefault(layer.weight, []).append(layer)
    found = {}
    for weight, sharing in users.items():
        array = edit.before.array(weight)
        axis = sharing[0].axis
        scale = symmetric_scale(channel_amax(array, axis))
        for layer in sharing:
            scale = _widened(edit, layer, scale, data_scales)
        scale = fp16_representable(scale) if half else scale
        dequantized = _dequantized(edit, weight, quantize_weight(array, scale, axis), scale, axis)
        for layer in sharing:
            edit.replace_input(edit.before.producers[layer.output], weight, dequantized)
        found[weight] = scale
    return found


def _widened(
    edit: GraphEdit, layer: Layer, scale: np.ndarray, data_scales: Mapping[str, float] | None
) -> np.ndarray:
    """Return `scale`, wide enough for the layer's bias where that is to be int32."""
    if data_scales is None or layer.bias is None or layer.bias not in edit.before.constants:
        return scale
    return bias_safe(scale, edit.before.array(layer.bias), data_scales[layer.data])


def _dequantized(
    edit: GraphEdit, weight: str, levels: np.ndarray, scale: np.ndarray, axis: int | None
) -> str:
    """Add the constants and the DequantizeLinear; return its output."""
    inputs = [
        edit.constant(f"{weight}_int8", levels),
        edit.constant(f"{weight}_scale", scale),
        edit.constant(f"{weight}_zero_point", np.zeros(scale.shape, np.int8)),
    ]
    name = edit.fresh(f"{weight}_dequantized")
    return edit.node("DequantizeLinear", inputs, name, axis=0 if axis is None else axis)
