"""Splits a TopK that asks for more than TensorRT sorts at once: K is at most 3840 in every version.
Source: ITopKLayer, https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/operators/TopK.html

The best K of a row are the best 3840, then the best K - 3840 of what is left. What was taken is
taken out by its index, so equal values stay in the order that TopK itself gives them:

    v₁, i₁ = TopK(x, 3840);   x₂ = ScatterElements(x, i₁, -∞);   v₂, i₂ = TopK(x₂, K - 3840);   ...
    v = Concat(v₁, v₂, ...),  i = Concat(i₁, i₂, ...)

pattern: TopK of FLOAT values with a constant K above the limit, largest first, sorted.
declines: smallest first, unsorted, or K that is not constant; the parser then says what is wrong.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["MOST", "constants_of", "count_of", "split_long_topk"]

MOST = 3840
_ROLES = ("indices", "shape", "lowest", "left")


def split_long_topk(model: onnx.ModelProto) -> list[str]:
    """Split every TopK that matches, in place; return the names of those."""
    graph = model.graph
    constants = constants_of(graph)
    names: list[str] = []
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        count = count_of(node, constants)
        if count <= MOST:
            nodes.append(node)
            continue
        names.append(node.name)
        nodes.extend(_parts(node, count, graph))
    del graph.node[:]
    graph.node.extend(nodes)
    return names


def constants_of(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the tensors that the graph itself holds, by name."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    return constants


def count_of(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> int:
    """Return K of a TopK that the pattern takes, else 0."""
    if node.op_type != "TopK" or node.input[1] not in constants:
        return 0
    given = {a.name: a.i for a in node.attribute}
    if given.get("largest", 1) != 1 or given.get("sorted", 1) != 1:
        return 0
    return int(numpy_helper.to_array(constants[node.input[1]]).item())


def _parts(node: onnx.NodeProto, count: int, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes that stand for `node`; their constants join `graph`."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
    left = node.input[0]
    nodes: list[onnx.NodeProto] = []
    parts = [f"{node.name}.part{index}" for index in range(-(-count // MOST))]
    for index, part in enumerate(parts):
        size = np.array([min(MOST, count - index * MOST)], np.int64)
        graph.initializer.append(numpy_helper.from_array(size, f"{part}.k"))
        outputs = [f"{part}.values", f"{part}.indices"]
        nodes.append(helper.make_node("TopK", [left, f"{part}.k"], outputs, part, axis=axis))
        if index + 1 < len(parts):
            nodes.extend(_without(left, part, axis))
            left = f"{part}.left"
    for role, output in zip(("values", "indices"), node.output, strict=True):
        joined = [f"{part}.{role}" for part in parts]
        nodes.append(helper.make_node("Concat", joined, [output], f"{node.name}.{role}", axis=axis))
    return nodes


def _without(data: str, part: str, axis: int) -> list[onnx.NodeProto]:
    """Return the nodes that make `{part}.left`: `data` with -∞ where `{part}.indices` point."""
    taken, shape, lowest, left = (f"{part}.{role}" for role in _ROLES)
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [-np.inf])
    return [
        helper.make_node("Shape", [taken], [shape], shape),
        helper.make_node("ConstantOfShape", [shape], [lowest], lowest, value=value),
        helper.make_node("ScatterElements", [data, taken, lowest], [left], left, axis=axis),
    ]
