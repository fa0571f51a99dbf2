"""Changes of a graph: an attribute, a type, a value, or a node put before an input."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = [
    "Change", "all_nodes", "nodes", "set_attribute",
    "with_attribute", "with_before", "with_type", "with_value",
]  # fmt: skip

Change = Callable[[onnx.ModelProto], None]


def all_nodes(graph: onnx.GraphProto) -> Iterator[tuple[onnx.GraphProto, onnx.NodeProto]]:
    for node in graph.node:
        yield graph, node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)


def nodes(model: onnx.ModelProto, op: str, part: str = "") -> list[onnx.NodeProto]:
    """Return nodes by operator, and by a part of the name that this one exporter gives."""
    return [n for _, n in all_nodes(model.graph) if n.op_type == op and part in n.name]


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    for attribute in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(attribute)
    node.attribute.append(helper.make_attribute(name, value))


def _feed(model: onnx.ModelProto, node: onnx.NodeProto, place: int, value: object) -> None:
    """Let input `place` of `node` be a constant of its own."""
    name = f"new_{len(model.graph.initializer)}"
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    while len(node.input) <= place:
        node.input.append("")
    node.input[place] = name


def _put_before(model: onnx.ModelProto, node: onnx.NodeProto, place: int, op: str) -> None:
    """Put a node `op` before input `place` of `node`."""
    fresh = f"before_{node.name}"
    extra = helper.make_node(op, [node.input[place]], [fresh], name=f"extra_{op}")
    for graph, other in all_nodes(model.graph):
        if other is node or other == node:
            index = list(graph.node).index(other)
            graph.node.insert(index, extra)
            graph.node[index + 1].input[place] = fresh
            return
    raise AssertionError(node.name)


def with_attribute(op: str, part: str, name: str, value: object, index: int = 0) -> Change:
    return lambda model: set_attribute(nodes(model, op, part)[index], name, value)


def with_type(op: str, part: str, other: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        for node in nodes(model, op, part):
            node.op_type = other

    return change


def with_value(op: str, part: str, place: int, value: object, index: int = 0) -> Change:
    return lambda model: _feed(model, nodes(model, op, part)[index], place, value)


def with_before(op: str, part: str, place: int, extra: str) -> Change:
    return lambda model: _put_before(model, nodes(model, op, part)[0], place, extra)
