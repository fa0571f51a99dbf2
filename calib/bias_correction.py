"""Bias correction: what quantising a layer adds to its result on average, taken off its bias.

    delta_c = E[ (W_q * x_q)_c - (W * x)_c ],        b'_c = b_c - delta_c

over pictures and positions, for each output channel c, where `x_q` is the layer's FP32 input on its
int8 grid and `W_q` its weights on theirs. Rounding errors of single weights do not average out over
an input whose channels have means (after a ReLU all of them), so the whole channel is shifted.

Each layer is given its FP32 input, so deltas do not depend on each other: what one layer corrects,
the next need not. The corrections belong to the scales that they were measured with.

Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
arXiv 1906.04721, section 4.2, with the mean measured instead of modelled.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..core import InputError
from .graph import GraphIndex
from .layers import Layer, find_layers
from .observe import filled, open_session, without_filler
from .recipe import Recipe
from .scales import channel_amax, quantize_weight, symmetric_scale

__all__ = ["correct_biases", "measure_bias"]


def measure_bias(
    model: onnx.ModelProto, recipe: Recipe, batches: Iterable[np.ndarray]
) -> dict[str, tuple[float, ...]]:
    """Return INT8 layer → `delta` of each output channel.

    Args:
        model: the FP32 graph that is quantised.
        recipe: its scales.
        batches: letterboxed pictures, uint8 `[b, H, W, 3]`; `b` is the graph's batch or less.

    Raises:
        InputError: there is no picture.
    """
    graph = GraphIndex(model)
    narrow = set(recipe.narrow_layers())
    layers = [x for x in find_layers(graph) if x.name in narrow and _has_bias(graph, x)]
    if not layers:
        return {}
    session = open_session(_with_means(model, recipe, layers))
    (feed,) = session.get_inputs()
    sums: list[np.ndarray] = [np.zeros(1)] * len(layers)
    pictures = 0
    for batch in batches:
        whole = filled(batch, feed.shape)
        found = session.run(None, {feed.name: whole})
        sums = [a + _a_picture(b, len(batch), len(whole)) for a, b in zip(sums, found, strict=True)]
        pictures += len(batch)
    if pictures == 0:
        raise InputError("there is no picture to measure biases on: name at least one.")
    return {
        layer.name: tuple(float(f"{x:.6g}") for x in np.atleast_1d(total / pictures))
        for layer, total in zip(layers, sums, strict=True)
    }


def correct_biases(
    model: onnx.ModelProto, corrections: Mapping[str, tuple[float, ...]]
) -> onnx.ModelProto:
    """Return `model` with each layer's correction taken off its bias.

    A bias that layers share (an RPN head's, on several levels) becomes one for each: what they read
    differs.
    """
    if not corrections:
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = GraphIndex(made)
    for layer in find_layers(graph):
        if layer.name not in corrections:
            continue
        delta = np.array(corrections[layer.name])
        bias = graph.array(layer.bias) if layer.bias is not None else np.zeros(len(delta))
        name = f"{layer.output}_corrected_bias"
        tensor = numpy_helper.from_array((bias - delta).astype(np.float32), name)
        made.graph.initializer.append(tensor)
        node = graph.producers[layer.output]
        del node.input[2:]
        node.input.append(name)
    return made


def _has_bias(graph: GraphIndex, layer: Layer) -> bool:
    """Whether the layer adds, or could add, one number to each output channel."""
    if layer.op_type == "MatMul":
        return False
    node = graph.producers[layer.output]
    if len(node.input) < 3 or not node.input[2]:
        return True
    return node.input[2] in graph.constants and len(graph.constants[node.input[2]].dims) == 1


def _a_picture(rows: np.ndarray, pictures: int, batch: int) -> np.ndarray:
    """Return the mean of each channel in a picture, summed over the first `pictures` of `batch`."""
    kept = without_filler(rows, pictures, batch).astype(np.float64)
    return kept.mean(axis=0) * pictures


def _with_means(model: onnx.ModelProto, recipe: Recipe, layers: list[Layer]) -> onnx.ModelProto:
    """Return a copy whose outputs are mean errors of the layers' results: `[rows, M]` each."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = GraphIndex(model)
    del made.graph.output[:]
    coarse: dict[str, str] = {}
    weights: dict[str, str] = {}
    for index, layer in enumerate(layers):
        if layer.data not in coarse:
            coarse[layer.data] = _on_grid(made.graph, layer.data, recipe.scale(layer.data))
        if layer.weight not in weights:
            weights[layer.weight] = _rounded_weight(made.graph, graph, layer)
        copy = onnx.NodeProto()
        copy.CopyFrom(graph.producers[layer.output])
        stem = f"maskrt_mean_{index}"
        copy.name, copy.input[0], copy.input[1] = stem, coarse[layer.data], weights[layer.weight]
        copy.output[0] = f"{stem}_quantised"
        rank = 2 if layer.op_type == "Gemm" else len(graph.constants[layer.weight].dims)
        axes = np.arange(2, rank, dtype=np.int64)
        made.graph.initializer.append(numpy_helper.from_array(axes, f"{stem}_axes"))
        gap = helper.make_node("Sub", [copy.output[0], layer.output], [f"{stem}_gap"], f"{stem}_s")
        mean = helper.make_node(
            "ReduceMean", [gap.output[0], f"{stem}_axes"], [stem], f"{stem}_m", keepdims=0,
            noop_with_empty_axes=1,
        )  # fmt: skip
        made.graph.node.extend([copy, gap, mean])
        made.graph.output.append(helper.make_tensor_value_info(stem, TensorProto.FLOAT, None))
    return made


def _on_grid(graph: onnx.GraphProto, tensor: str, scale: float) -> str:
    """Add Q and DQ behind a tensor, on the symmetric int8 grid; return the result."""
    stem = f"maskrt_grid_{tensor}"
    step = numpy_helper.from_array(np.float32(scale), f"{stem}_scale")
    zero = numpy_helper.from_array(np.int8(0), f"{stem}_zero")
    graph.initializer.extend([step, zero])
    inputs = [step.name, zero.name]
    graph.node.extend(
        [
            helper.make_node("QuantizeLinear", [tensor, *inputs], [f"{stem}_levels"], f"{stem}_q"),
            helper.make_node("DequantizeLinear", [f"{stem}_levels", *inputs], [stem], f"{stem}_dq"),
        ]
    )
    return stem


def _rounded_weight(made: onnx.GraphProto, graph: GraphIndex, layer: Layer) -> str:
    """Add the weight as int8 levels times scale; return its name."""
    weight = graph.array(layer.weight)
    scale = symmetric_scale(channel_amax(weight, layer.axis))
    levels = quantize_weight(weight, scale, layer.axis).astype(np.float32)
    shape = [-1 if axis == layer.axis else 1 for axis in range(weight.ndim)]
    value = levels * (scale.reshape(shape) if scale.ndim else scale)
    name = f"maskrt_rounded_{layer.weight}"
    made.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    return name
