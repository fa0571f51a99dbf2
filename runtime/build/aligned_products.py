"""Pads a layer's rows to a multiple of eight, because TensorRT-RTX copies the result of others.

Its FP16 GEMMs write rows of a multiple of eight numbers, and a further kernel cuts them to size.
With zeros behind the weights the padding is the graph's own, and what reads the result cuts it:

    y = Gemm(x, W, b)      becomes      y = Gemm(x, [W, 0], [b, 0])[:, :N]

pattern: Gemm of FP16 with weights and, if any, bias that are constants of one reader.
declines: other types, weights that several nodes share or that are dequantised, and any alpha, beta
or transA.
"""

from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["align_products"]

_ALIGNED = 8


def align_products(model: onnx.ModelProto) -> list[str]:
    """Rewrite every Gemm that matches, in place; return the names of those."""
    graph = model.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    reads = Counter(name for node in graph.node for name in node.input)
    names: list[str] = []
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        constants = [held[name] for name in node.input[1:] if name in held]
        if node.op_type != "Gemm" or len(constants) < len(node.input) - 1 or not _is_plain(node):
            continue
        if any(reads[t.name] > 1 or t.data_type != TensorProto.FLOAT16 for t in constants):
            continue
        axis = 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
        size = constants[0].dims[axis]
        if size % _ALIGNED:
            nodes.append(_padded(node, constants, axis, graph))
            names.append(node.name)
    del graph.node[:]
    graph.node.extend(nodes)
    return names


def _is_plain(node: onnx.NodeProto) -> bool:
    given = {a.name: a for a in node.attribute}
    scales = [given[name].f for name in ("alpha", "beta") if name in given]
    return all(scale == 1 for scale in scales) and not ("transA" in given and given["transA"].i)


def _padded(
    node: onnx.NodeProto, constants: list[onnx.TensorProto], axis: int, graph: onnx.GraphProto
) -> onnx.NodeProto:
    """Pad the constants of `node` in place, and return what cuts its result."""
    size = constants[0].dims[axis]
    more = -size % _ALIGNED
    for tensor, along in zip(constants, (axis, -1), strict=False):
        values = numpy_helper.to_array(tensor)
        if values.ndim and values.shape[along] == size:  # a bias may be one number for all
            pads = [(0, 0)] * values.ndim
            pads[along] = (0, more)
            tensor.CopyFrom(numpy_helper.from_array(np.pad(values, pads), tensor.name))
    result = node.output[0]
    node.output[0] = f"{result}.aligned"
    edges = {"start": 0, "end": size, "axis": -1}
    for role, value in edges.items():
        tensor = numpy_helper.from_array(np.array([value], np.int64), f"{result}.{role}")
        graph.initializer.append(tensor)
    inputs = [node.output[0], *(f"{result}.{role}" for role in edges)]
    stale = [info for info in graph.value_info if info.name == node.output[0]]
    for info in stale:
        graph.value_info.remove(info)
    return helper.make_node("Slice", inputs, [result], f"{result}.cut")
