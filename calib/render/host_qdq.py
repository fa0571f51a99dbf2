"""Q/DQ in the form that ONNX Runtime fuses into integer kernels on a CPU.

ONNX Runtime replaces `DequantizeLinear -> op -> QuantizeLinear` by one integer kernel if every
input and output of the op is quantised to one type. So here, unlike for TensorRT:

* every tensor between two INT8 layers is **uint8**: zero point 0 where calibration saw no negative
  number (after ReLU, which then vanishes into saturation), else 128, the symmetric grid shifted;
* the *outputs* of layers and both inputs of a residual sum are quantised too;
* weights are **uint8** with zero point 128 and a scale for each channel, the integers of int8 with
  128 added: without instructions for dot products of bytes, ONNX Runtime's kernels for int8 weights
  add two products in 16 bits and saturate, those for uint8 weights never do. Pairs of weights are
  small enough for 16 bits (`_paired.py`), so that who loads the graph may take the faster kernels;
* biases are int32 with scale data x weight;
* an activation function that the grid of its result does not stand for (a Relu whose result shares
  a grid with negative numbers, a Clip to less than the grid) is computed in float between two
  pairs, since ONNX Runtime would compute its layer in float as well;
* whatever else reads such a tensor gets the dequantised one: the float tensor is never made.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ...core import Precision
from ..graph import GraphIndex, is_standard
from ..layers import Layer, find_layers
from ..placement import place, rearranged_from
from ..recipe import Recipe
from ..scales import LEVELS, quantize_bias
from ._deconvolution import split_deconvolutions
from ._edit import GraphEdit
from ._late_shuffle import shuffle_late
from ._products import sum_products
from ._weights import quantize_weights

__all__ = ["render_host_qdq"]

_MIDDLE = 128


@dataclass(frozen=True)
class _Grid:
    """Scale and uint8 zero point of one activation tensor."""

    scale: float
    zero_point: int


def render_host_qdq(model: onnx.ModelProto, recipe: Recipe, *, full_range: bool) -> onnx.ModelProto:
    """Return `model` with the recipe's INT8 layers as ONNX Runtime's integer kernels.

    Args:
        model: the graph that the recipe was made for.
        recipe: scales and precisions; layers that are not INT8 stay FP32.
        full_range: spread tensors without negative numbers over 255 levels instead of 127.
    """
    placement = place(model)
    chosen = {n for n, choice in recipe.layers.items() if choice.precision is Precision.INT8}
    model, origin = split_deconvolutions(model, chosen)
    model, rearranged = sum_products(model, chosen)
    origin |= rearranged
    edit = GraphEdit(shuffle_late(model))
    layers = [layer for layer in find_layers(edit.before) if layer.name in chosen]
    grids: dict[str, _Grid] = {}
    for name in _quantized(edit.before, layers):
        grids[name] = _grid(recipe, placement.group(origin.get(name, name)), full_range)
        _quantize_tensor(edit, name, grids[name])
    for layer in layers:
        if layer.result in grids and not _stands_for(edit.before, layer, grids[layer.result]):
            _quantize_tensor(edit, layer.output, grids[layer.result])
    scales = {name: grid.scale for name, grid in grids.items()}
    weight_scales = quantize_weights(edit, layers, data_scales=scales, for_host=True)
    for layer in layers:
        _quantize_bias(edit, layer, scales[layer.data], weight_scales[layer.weight])
    return edit.finish()


def _quantized(graph: GraphIndex, layers: Sequence[Layer]) -> list[str]:
    """Return the tensors between integer kernels, in graph order.

    A Gemm without an activation function can write floats, so its result is quantised only where
    an INT8 layer reads it. With one, ONNX Runtime would fuse the two as floats first.
    """
    placement = place(graph.model)
    found = {layer.data for layer in layers}
    made = {layer.result for layer in layers}
    found |= {
        layer.result
        for layer in layers
        if layer.op_type.startswith("Conv") or layer.result != layer.output
    }
    for add in placement.adds:
        inputs = {add.skip, add.main}
        if all(({name, *rearranged_from(graph, name)} & (found | made)) for name in inputs):
            found |= inputs | {add.result}
    return [name for name in placement.tensors if name in found]


def _grid(recipe: Recipe, group: Sequence[str], full_range: bool) -> _Grid:
    """Return the one uint8 grid of the tensors of a group."""
    scale = recipe.scale(group[0])
    if min(recipe.tensors[name].minimum for name in group) < 0.0:
        return _Grid(scale, _MIDDLE)
    return _Grid(scale * LEVELS / 255 if full_range else scale, 0)


def _stands_for(graph: GraphIndex, layer: Layer, grid: _Grid) -> bool:
    """Whether saturation on `grid` does all that the layer's activation function does."""
    if layer.result == layer.output:
        return True
    activation = graph.producers[layer.result]
    if is_standard(activation, "Relu"):
        return grid.zero_point == 0
    ends = [-np.inf, np.inf]
    for index, name in enumerate(activation.input[1:3]):
        if name:
            if name not in graph.constants:
                return False
            ends[index] = float(graph.array(name).reshape(-1)[0])
    least, most = -grid.zero_point * grid.scale, (255 - grid.zero_point) * grid.scale
    return ends[0] <= least and most <= ends[1]


def _quantize_tensor(edit: GraphEdit, name: str, grid: _Grid) -> None:
    """Put Q and DQ on the tensor `name`, so that every reader gets the dequantised one."""
    scale = edit.constant(f"{name}_scale", np.float32(grid.scale))
    zero_point = edit.constant(f"{name}_zero_point", np.uint8(grid.zero_point))
    readers = edit.before.consumers.get(name, [])
    if name in edit.before.producers:
        raw, dequantized = edit.fresh(f"{name}_float"), name
        edit.rename_output(name, raw)
    else:
        raw, dequantized = name, edit.fresh(f"{name}_dequantized")
        for node in readers:
            edit.replace_input(node, name, dequantized)
    levels = edit.node("QuantizeLinear", [raw, scale, zero_point], edit.fresh(f"{name}_quantized"))
    edit.node("DequantizeLinear", [levels, scale, zero_point], dequantized)


def _quantize_bias(
    edit: GraphEdit, layer: Layer, data_scale: float, weight_scale: np.ndarray
) -> None:
    """Store the bias as int32 on the grid of the layer's accumulators."""
    if layer.bias is None or layer.bias not in edit.before.constants:
        return
    bias = edit.before.array(layer.bias).reshape(-1)  # a Gemm's may be one row of a matrix
    if weight_scale.ndim and bias.size not in (1, weight_scale.size):
        return  # a number for each row: added as floats
    scale = (np.float32(data_scale) * weight_scale).astype(np.float32)
    levels = edit.constant(f"{layer.bias}_int32", quantize_bias(bias, scale))
    inputs = [levels, edit.constant(f"{layer.bias}_scale", scale)]
    name = edit.fresh(f"{layer.output}_bias")
    edit.node("DequantizeLinear", inputs, name, axis=0)
    edit.replace_input(edit.before.producers[layer.output], layer.bias, name)
