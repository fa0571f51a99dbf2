"""Lets RoIAlign read FP16 features as they are, where the graph only widens them for it.

A rendered graph gives `maskrt` nodes FP32. In one of FP16 layers that makes two copies of the
pyramid for nothing: a kernel widens it, and what reads the pooled features rounds them again.

    level (FP16) → Cast → MultilevelRoIAlign (FP32) → [moves] → Cast → FP16

becomes the same node on the FP16 levels, with its result rounded where it is made. Coordinates,
weights and sums are FP32 for features of any type, so no number changes.

pattern: all levels come out of a Cast from FP16, and all readers of the result, behind data
movement, are Casts to FP16.
declines: anything else, such as a QuantizeLinear that reads the unrounded result.
"""

from collections import defaultdict

import onnx
from onnx import TensorProto, helper, shape_inference

from ...plugins import DOMAIN

__all__ = ["narrow_roialign"]

_MOVES = {"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


def narrow_roialign(model: onnx.ModelProto) -> list[str]:
    """Rewrite every MultilevelRoIAlign that matches, in place; return the names of those."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output if name}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    outputs = {info.name for info in graph.output}
    matched = [
        node
        for node in graph.node
        if node.domain == DOMAIN
        and node.op_type == "MultilevelRoIAlign"
        and all(_casts(producers.get(name), TensorProto.FLOAT) for name in node.input[1:])
        and _is_only_rounded(node.output[0], readers, outputs)
    ]
    known = _types(model) if matched else {}
    found = []
    for node in matched:
        narrow = [producers[name].input[0] for name in node.input[1:]]
        types = [known.get(name) for name in narrow]
        if all(t and t.elem_type == TensorProto.FLOAT16 and _is_static(t) for t in types):
            _narrow(graph, node, narrow, known)
            found.append(node.name)
    return found


def _casts(node: onnx.NodeProto | None, to: int) -> bool:
    return node is not None and node.op_type == "Cast" and node.attribute[0].i == to


def _is_only_rounded(
    name: str, readers: dict[str, list[onnx.NodeProto]], outputs: set[str]
) -> bool:
    """Whether all that reads `name`, moved or not, is a Cast to FP16."""
    if name in outputs or not readers[name]:
        return False
    return all(
        _casts(node, TensorProto.FLOAT16)
        or (
            node.op_type in _MOVES
            and node.input[0] == name
            and _is_only_rounded(node.output[0], readers, outputs)
        )
        for node in readers[name]
    )


def _types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    graph = shape_inference.infer_shapes(model).graph
    return {info.name: info.type.tensor_type for info in (*graph.value_info, *graph.input)}


def _is_static(kind: onnx.TypeProto.Tensor) -> bool:
    return kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim)


def _narrow(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    levels: list[str],
    known: dict[str, onnx.TypeProto.Tensor],
) -> None:
    """Let `node` read `levels`, and widen its result for the Casts behind it, which undo that."""
    result = node.output[0]
    node.input[1:] = levels
    node.output[0] = f"{result}.half"
    widened = helper.make_node(
        "Cast", [node.output[0]], [result], f"{result}.widened", to=int(TensorProto.FLOAT)
    )
    graph.node.insert(list(graph.node).index(node) + 1, widened)
    stated = {info.name for info in graph.value_info}
    for name in dict.fromkeys(levels):
        if name not in stated:
            shape = [d.dim_value for d in known[name].shape.dim]
            info = helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape)
            graph.value_info.append(info)
