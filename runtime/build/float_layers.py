"""Keeps ONNX Runtime from quantising layers that the recipe left in float.

Where a float layer reads quantised data and its result goes straight to a QuantizeLinear, ONNX
Runtime quantises the weights by itself, with scales that no recipe knows, into a QLinearConv:

    DequantizeLinear → [MaxPool] → Conv (float weights) → [Relu] → QuantizeLinear

So a Max with the lowest FP32 number, which changes nothing, is put before that QuantizeLinear; the
pattern no longer matches, and Conv and Relu still fuse. It costs one pass over the result.

Source: WeightBiasQuantization, https://github.com/microsoft/onnxruntime/pull/22969 and, for what
may stand between layer and QuantizeLinear, https://github.com/microsoft/onnxruntime/pull/25673
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...core import Precision
from .layers import HeavyLayer

__all__ = ["keep_float_layers"]

_LOWEST = "maskrt.lowest_float"
_MOVES = {
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Reshape",
    "Resize",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
Readers = dict[str, list[onnx.NodeProto]]


def keep_float_layers(model: onnx.ModelProto, layers: list[HeavyLayer]) -> list[str]:
    """Guard every FP32 layer of `layers` that matches, in place; return the names of those."""
    graph = model.graph
    wide = {layer.name for layer in layers if layer.wanted is Precision.FP32}
    dequantized = _dequantized(graph)
    readers = _readers(graph)
    guarded = {
        result: node.name
        for node in graph.node
        if node.name in wide
        and node.input[0] in dequantized
        and (result := _quantised_result(node, readers)) is not None
    }
    if guarded:
        _guard(graph, set(guarded))
    return list(guarded.values())


def _dequantized(graph: onnx.GraphProto) -> set[str]:
    """Return what DequantizeLinear makes, moved or not: ONNX Runtime sees through the moves."""
    found: set[str] = set()
    for node in graph.node:  # in topological order
        if node.op_type == "DequantizeLinear" or (
            node.op_type in _MOVES and node.input[0] in found
        ):
            found.update(node.output)
    return found


def _readers(graph: onnx.GraphProto) -> Readers:
    readers: Readers = {info.name: [onnx.NodeProto()] for info in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _quantised_result(node: onnx.NodeProto, readers: Readers) -> str | None:
    """Return the tensor that a QuantizeLinear reads at the end of an unbranched path, or None."""
    while len(readers.get(node.output[0], [])) == 1:
        reader = readers[node.output[0]][0]
        if reader.op_type == "QuantizeLinear":
            return str(node.output[0])
        if not reader.output:
            return None  # an output of the graph
        node = reader
    return None


def _guard(graph: onnx.GraphProto, guarded: set[str]) -> None:
    lowest = np.asarray(np.finfo(np.float32).min)
    graph.initializer.append(numpy_helper.from_array(lowest, _LOWEST))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in guarded:
            node.input[0] = f"{node.input[0]}.guarded"
        nodes.append(node)
        for name in guarded.intersection(node.output):
            output = f"{name}.guarded"
            nodes.append(helper.make_node("Max", [name, _LOWEST], [output], output))
    del graph.node[:]
    graph.node.extend(nodes)
