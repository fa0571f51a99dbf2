"""Cross-layer equalisation: channels of one tensor brought to one size, the function left alone.

Between two layers that nothing but a ReLU lies between, each channel c may be scaled freely:

    relu(x / s) = relu(x) / s       for s > 0
    W1[c] / s_c,  b1[c] / s_c       and       W2[:, c] * s_c

leave the second layer's result as it is. Nagel et al. choose `s_c = sqrt(r1_c / r2_c)`, which makes
both ranges sqrt(r1_c r2_c), with r1 and r2 the largest weights that make and read the channel. Here
a weight has a scale for each output channel, so W1 does not care; what has one scale for all its
channels is the tensor between, so r1 is that tensor's largest magnitude in channel c.

A pair: Conv, ConvTranspose or Gemm; then a ReLU or nothing; then alone a Conv (of one group, or
depthwise), ConvTranspose or Gemm. Both weights are read by no other node. A channel that is dead on
either side keeps s = 1.

Source: Nagel et al., Data-Free Quantization Through Weight Equalization, arXiv 1906.04721.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .graph import GraphIndex, attribute
from .layers import Layer, find_layers
from .observe import filled, open_session

__all__ = ["Pair", "equalise", "find_factors", "find_pairs"]

_SWEEPS = 20
_WIDEST = 2.0**8  # no channel is scaled by more: what is that far off is as good as dead


@dataclass(frozen=True)
class Pair:
    """Two layers and the tensor between them.

    Attributes:
        first: the layer that makes it.
        second: the one that reads it.
        out_axis: axis of the first weight that runs over the tensor's channels.
        in_axis: axis of the second weight that does.
    """

    first: Layer
    second: Layer
    out_axis: int
    in_axis: int


def find_pairs(model: onnx.ModelProto) -> list[Pair]:
    """Return the pairs of the graph, in topological order."""
    graph = GraphIndex(model)
    layers = find_layers(graph)
    by_output = {layer.output: layer for layer in layers}
    pairs = []
    for first in layers:
        reader = graph.only_consumer(first.result)
        second = by_output.get(reader.output[0]) if reader is not None else None
        if second is None or second.data != first.result or not _passes_scale(graph, first):
            continue
        axes = _out_axis(graph, first), _in_axis(graph, second)
        own = all(len(graph.consumers[x]) == 1 for x in (first.weight, second.weight))
        if axes[0] is not None and axes[1] is not None and own:
            pairs.append(Pair(first, second, axes[0], axes[1]))
    return pairs


def find_factors(
    model: onnx.ModelProto, batches: Iterable[np.ndarray]
) -> dict[str, tuple[float, ...]]:
    """Return the tensor between each pair → the divisor `s_c` of each of its channels.

    Args:
        model: the canonical FP32 graph.
        batches: letterboxed pictures, uint8 `[b, H, W, 3]`, to see how large the tensors get; `b`
            is the graph's batch or less.
    """
    pairs = find_pairs(model)
    graph = GraphIndex(model)
    largest = _channel_maxima(model, [pair.first for pair in pairs], batches)
    factors = {name: np.ones(len(values)) for name, values in largest.items()}
    for _ in range(_SWEEPS):
        for pair in pairs:
            name, after = pair.first.result, pair.second.result
            # Its readers' weights shrink where the next pair divides their results.
            weight = np.abs(graph.array(pair.second.weight).astype(np.float64))
            if after in factors:
                weight = weight / _along(factors[after], weight.ndim, _next_axis(pairs, after))
            read = weight.max(axis=tuple(i for i in range(weight.ndim) if i != pair.in_axis))
            factors[name] = _balance(largest[name], read)
    # Any positive factor is exact, so a few digits are enough.
    return {name: tuple(float(f"{x:.4g}") for x in found) for name, found in factors.items()}


def equalise(model: onnx.ModelProto, factors: Mapping[str, tuple[float, ...]]) -> onnx.ModelProto:
    """Return `model` with the tensors of `factors` divided by them, channel by channel."""
    if not factors:
        return model
    graph = GraphIndex(model)
    changed: dict[str, np.ndarray] = {}
    for pair in find_pairs(model):
        if pair.first.result not in factors:
            continue
        scale = np.array(factors[pair.first.result])
        for name, axis, by in (
            (pair.first.weight, pair.out_axis, 1 / scale),
            (pair.second.weight, pair.in_axis, scale),
            *(() if pair.first.bias is None else ((pair.first.bias, 0, 1 / scale),)),
        ):
            value = changed.get(name, graph.array(name).astype(np.float64))
            changed[name] = value * _along(by, value.ndim, axis)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for tensor in made.graph.initializer:
        if tensor.name in changed:
            value = changed[tensor.name].astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return made


def _balance(made: np.ndarray, read: np.ndarray) -> np.ndarray:
    alive = (made > 0) & (read > 0)
    ratio = np.divide(made, read, out=np.ones_like(made), where=alive)
    scale = np.sqrt(ratio)
    # One factor for all channels changes nothing, so the middle one is 1.
    middle = float(np.exp(np.mean(np.log(scale[alive])))) if alive.any() else 1.0
    return np.where(alive, np.clip(scale / middle, 1 / _WIDEST, _WIDEST), 1.0)


def _along(values: np.ndarray, rank: int, axis: int) -> np.ndarray:
    """Return `values` shaped to broadcast along `axis` of an array of `rank` dimensions."""
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])


def _next_axis(pairs: list[Pair], tensor: str) -> int:
    return next(pair.out_axis for pair in pairs if pair.first.result == tensor)


def _passes_scale(graph: GraphIndex, layer: Layer) -> bool:
    """Whether the layer's result scales with its weights and bias."""
    node = graph.producers[layer.output]
    if layer.result != layer.output and graph.producers[layer.result].op_type != "Relu":
        return False
    if len(node.input) > 2 and node.input[2]:
        bias = graph.constants.get(node.input[2])
        if bias is None or len(bias.dims) != 1 or len(graph.consumers[bias.name]) != 1:
            return False
    return _is_plain(graph, layer)


def _is_plain(graph: GraphIndex, layer: Layer) -> bool:
    node = graph.producers[layer.output]
    factors = (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0))
    return factors == (1.0, 1.0) and not attribute(node, "transA", 0)


def _out_axis(graph: GraphIndex, layer: Layer) -> int | None:
    if layer.op_type == "ConvTranspose":
        return 1 if attribute(graph.producers[layer.output], "group", 1) == 1 else None
    return layer.axis if layer.op_type in ("Conv", "Gemm") else None


def _in_axis(graph: GraphIndex, layer: Layer) -> int | None:
    """Return the axis of the input channels; None where a slice of it is not one channel's."""
    node = graph.producers[layer.output]
    group = attribute(node, "group", 1)
    if layer.op_type == "Conv":
        depthwise = list(graph.constants[layer.weight].dims[:2]) == [group, 1]
        return 1 if group == 1 else 0 if depthwise else None
    if layer.op_type == "ConvTranspose":
        return 0 if group == 1 else None
    if layer.op_type == "Gemm" and _is_plain(graph, layer):
        return 1 if attribute(node, "transB", 0) else 0
    return None


def _channel_maxima(
    model: onnx.ModelProto, layers: list[Layer], batches: Iterable[np.ndarray]
) -> dict[str, np.ndarray]:
    """Return each layer's result → the largest magnitude in each of its channels (axis 1)."""
    if not layers:
        return {}
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    graph = GraphIndex(model)
    del shown.graph.output[:]
    for index, layer in enumerate(layers):
        size, peak = f"maskrt_size_{index}", f"maskrt_peak_{index}"
        rank = 2 if layer.op_type == "Gemm" else len(graph.constants[layer.weight].dims)
        axes = [axis for axis in range(rank) if axis != 1]
        constant = numpy_helper.from_array(np.array(axes, np.int64), f"{peak}_axes")
        shown.graph.initializer.append(constant)
        shown.graph.node.extend(
            [
                helper.make_node("Abs", [layer.result], [size], size),
                helper.make_node("ReduceMax", [size, constant.name], [peak], peak, keepdims=0),
            ]
        )
        info = helper.make_tensor_value_info(peak, TensorProto.FLOAT, None)
        shown.graph.output.append(info)
    session = open_session(shown)
    (feed,) = session.get_inputs()
    found: list[np.ndarray] = []
    for batch in batches:
        seen = session.run(None, {feed.name: filled(batch, feed.shape)})
        found = [np.maximum(a, b) for a, b in zip(found or seen, seen, strict=True)]
    names = [layer.result for layer in layers]
    return {n: values.astype(np.float64) for n, values in zip(names, found, strict=True)}
