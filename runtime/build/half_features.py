"""Lets RoIAlign read FP16 features as they are, where the graph only widens them for it.

A rendered graph gives `maskrt` nodes FP32. In one of FP16 layers that makes two copies of the
pyramid for nothing: a kernel widens it, and what reads the pooled features rounds them again.

    level (FP16) → Cast → MultilevelRoIAlign (FP32) → [moves] → Cast → FP16

becomes the same node on the FP16 levels, with its result rounded where it is made. Coordinates,
weights and sums are FP32 for features of any type, so no number changes. A QuantizeLinear behind it
reads what was rounded to FP16, as all others in such a graph do.

pattern: all levels come out of a Cast from FP16, and all readers of the result, behind data
movement, are Casts to FP16 or QuantizeLinear.
declines: anything else, such as an operator that reads the unrounded result.
"""

from collections import defaultdict

import onnx
from onnx import TensorProto, helper

from ...core.operator_names import operator_of
from ...plugins import DOMAIN
from .tensor_types import static_types

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
        and operator_of(node.op_type) == "MultilevelRoIAlign"
        and all(_casts(producers.get(name), TensorProto.FLOAT) for name in node.input[1:])
        and _is_only_rounded(node.output[0], readers, outputs)
    ]
    known = static_types(model) if matched else {}
    found = []
    for node in matched:
        narrow = [producers[name].input[0] for name in node.input[1:]]
        types = [known.get(name) for name in narrow]
        if all(kind is not None and kind[0] == TensorProto.FLOAT16 for kind in types):
            _narrow(graph, node, narrow, known)
            found.append(node.name)
    return found


def _casts(node: onnx.NodeProto | None, to: int) -> bool:
    return node is not None and node.op_type == "Cast" and node.attribute[0].i == to


def _is_only_rounded(
    name: str, readers: dict[str, list[onnx.NodeProto]], outputs: set[str]
) -> bool:
    """Whether all that reads `name`, moved or not, is a Cast to FP16 or quantises."""
    if name in outputs or not readers[name]:
        return False
    return all(
        _casts(node, TensorProto.FLOAT16)
        or (node.op_type == "QuantizeLinear" and node.input[0] == name)
        or (
            node.op_type in _MOVES
            and node.input[0] == name
            and _is_only_rounded(node.output[0], readers, outputs)
        )
        for node in readers[name]
    )


def _narrow(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    levels: list[str],
    known: dict[str, tuple[int, tuple[int, ...]]],
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
            info = helper.make_tensor_value_info(name, TensorProto.FLOAT16, known[name][1])
            graph.value_info.append(info)
