"""Q/DQ in the explicit form of TensorRT 10, 11 and TensorRT-RTX: symmetric, zero point 0.

    activation -> QuantizeLinear -> DequantizeLinear -> Conv, ConvTranspose, Gemm, MatMul
    int8 weight constant         -> DequantizeLinear ->

FP8 is the same with float8 (E4M3) in place of int8, and 448, its largest number, in place of 127.

Only inputs of layers are quantised, once each, and the skip branch of a residual sum whose other
branch is an INT8 layer. A skip branch that a nearest Resize makes is quantised at the Resize's
input; what a layer reads is quantised behind it, since TensorRT-RTX computes a convolution in float
that has a Resize between it and its DequantizeLinear. Biases stay float, and every reader that is
not INT8 keeps the float tensor.

Source: NVIDIA, Working with Quantized Types, Q/DQ layer-node placement recommendations.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import onnx

from ...core import Precision
from ..graph import GraphIndex, is_standard
from ..layers import Layer, find_layers
from ..placement import moves_data, place
from ..recipe import PER_TENSOR, Recipe
from ..scales import LARGEST_FP8, LEVELS, fp16_representable
from ._edit import GraphEdit
from ._weights import quantize_weights

__all__ = ["render_explicit_qdq"]


def render_explicit_qdq(
    model: onnx.ModelProto, recipe: Recipe, precision: Precision = Precision.INT8
) -> onnx.ModelProto:
    """Return `model` with the layers of `precision` between explicit Q/DQ; all else is unchanged.

    Args:
        model: the FP32 graph.
        recipe: scales and precisions.
        precision: INT8 or FP8.
    """
    edit = GraphEdit(model)
    layers = [
        layer
        for layer in find_layers(edit.before)
        if recipe.layers[layer.name].precision is precision
    ]
    fp8 = precision is Precision.FP8
    half = recipe.rest is Precision.FP16
    per_tensor = recipe.weight_scales == PER_TENSOR
    pairs: dict[str, str] = {}
    for node, tensor, calibrated in _reads(edit.before, layers, skips=not per_tensor):
        if tensor not in pairs:
            scale = np.float32(recipe.scale(calibrated) * (LEVELS / LARGEST_FP8 if fp8 else 1))
            scale = fp16_representable(scale) if half else scale
            pairs[tensor] = _pair(edit, tensor, scale, fp8=fp8)
        edit.replace_input(node, tensor, pairs[tensor])
    quantize_weights(edit, layers, half=half, fp8=fp8, per_tensor=per_tensor)
    return edit.finish()


def _reads(
    graph: GraphIndex, layers: Sequence[Layer], *, skips: bool
) -> Iterable[tuple[onnx.NodeProto, str, str]]:
    """Yield each node that is to read a quantised tensor, that tensor, and whose scale it has."""
    for layer in layers:
        yield graph.producers[layer.output], layer.data, layer.data
    made = {name for layer in layers for name in (layer.output, layer.result)}
    for add in place(graph.model).adds if skips else ():
        if add.main in made:
            yield (*_before_resize(graph, graph.producers[add.output], add.skip), add.skip)


def _before_resize(
    graph: GraphIndex, node: onnx.NodeProto, tensor: str
) -> tuple[onnx.NodeProto, str]:
    """Follow `tensor` back over nearest Resizes: the first of them reads the quantised tensor.

    It holds the same numbers, and so has the same scale. A bilinear Resize computes, and does not
    commute with rounding, and one that others read makes floats for them: those are quantised
    behind it.
    """
    producer = graph.producers.get(tensor)
    while producer is not None and is_standard(producer, "Resize") and moves_data(producer):
        if graph.only_consumer(tensor) is None:
            break
        node, tensor = producer, producer.input[0]
        producer = graph.producers.get(tensor)
    return node, tensor


def _pair(edit: GraphEdit, tensor: str, scale: np.ndarray, *, fp8: bool) -> str:
    """Add Q and DQ behind `tensor`; return the dequantised tensor."""
    step = edit.constant(f"{tensor}_scale", scale)
    zero = f"{tensor}_zero_point"
    zero_point = edit.fp8_constant(zero, scale * 0) if fp8 else edit.constant(zero, np.int8(0))
    levels = edit.fresh(f"{tensor}_quantized")
    edit.node("QuantizeLinear", [tensor, step, zero_point], levels)
    return edit.node(
        "DequantizeLinear", [levels, step, zero_point], edit.fresh(f"{tensor}_dequantized")
    )
