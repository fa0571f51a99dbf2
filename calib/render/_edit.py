"""Editing an ONNX graph: a working copy that nodes and constants are added to in any order.

`finish` sorts the nodes, drops constants that nobody reads and returns the model, so an edit never
has to know where in the list a node belongs. A tensor of the original graph keeps its shape and
type as long as it exists (one of another type gets another name), so `value_info` stays true.
"""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..graph import GraphIndex, captured

__all__ = ["GraphEdit"]


class GraphEdit:
    """A copy of a model under construction.

    Attributes:
        before: index of the original graph; edits do not enter it.
        model: the copy.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Copy `model`; the original is never touched."""
        self.before = GraphIndex(model)
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self._nodes = {_key(node): node for node in self.model.graph.node}
        self._added: list[onnx.NodeProto] = []
        self._taken = {name for n in model.graph.node for name in (*n.input, *n.output, n.name)}
        self._taken |= self.before.constants.keys()

    def fresh(self, name: str) -> str:
        """Return `name`, or `name_1`, `name_2`, ... if the graph has it already."""
        candidate, number = name, 0
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add an initializer and return its name."""
        name = self.fresh(name)
        self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def fp8_constant(self, name: str, value: np.ndarray) -> str:
        """Add an initializer of float8 E4M3, each number the nearest to that of `value`."""
        name, values = self.fresh(name), np.asarray(value, np.float32)
        kind = onnx.TensorProto.FLOAT8E4M3FN
        tensor = helper.make_tensor(name, kind, values.shape, values.ravel().tolist())
        self.model.graph.initializer.append(tensor)
        return name

    def bf16_constant(self, name: str, value: np.ndarray) -> str:
        """Add an initializer of bfloat16: the upper half of each float32, rounded to even."""
        name, values = self.fresh(name), np.ascontiguousarray(value, np.float32)
        bits = values.view(np.uint32)
        upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        kind = onnx.TensorProto.BFLOAT16
        tensor = helper.make_tensor(name, kind, values.shape, upper.tobytes(), raw=True)
        self.model.graph.initializer.append(tensor)
        return name

    def node(
        self, op_type: str, inputs: list[str], output: str, *, name: str = "", **attributes: Any
    ) -> str:
        """Add a node, named after its one output unless `name` is given; return that output."""
        name = name or self.fresh(f"{output}_{op_type}")
        made = helper.make_node(op_type, inputs, [output], name=name, **attributes)
        self._added.append(made)
        return output

    def edited(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """Return the copy of a node of the original graph, to change in place."""
        return self._nodes[_key(node)]

    def remove(self, node: onnx.NodeProto) -> None:
        """Take out a node of the original graph."""
        del self._nodes[_key(node)]

    def rename_output(self, name: str, new_name: str) -> None:
        """Let the producer of `name` write `new_name` instead; readers keep reading `name`."""
        node = self.edited(self.before.producers[name])
        node.output[list(self.before.producers[name].output).index(name)] = new_name

    def replace_input(self, node: onnx.NodeProto, name: str, new_name: str) -> None:
        """Let a node of the original graph read `new_name` wherever it read `name`."""
        for position, old in enumerate(node.input):
            if old == name:
                self.edited(node).input[position] = new_name

    def finish(self) -> onnx.ModelProto:
        """Return the edited model: nodes in topological order, no constant that nobody reads."""
        graph = self.model.graph
        nodes = _sorted([*self._added, *self._nodes.values()])
        del graph.node[:]
        graph.node.extend(nodes)
        used = {name for node in nodes for name in (*node.input, *captured(node))}
        used.update(value.name for value in graph.output)
        for position in reversed(range(len(graph.initializer))):
            if graph.initializer[position].name not in used:
                del graph.initializer[position]
        return self.model


def _key(node: onnx.NodeProto) -> str:
    return next(name for name in node.output if name)


def _sorted(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return `nodes` so that each comes after those whose outputs it reads."""
    producers = {name: node for node in nodes for name in node.output if name}
    done: set[int] = set()
    ordered: list[onnx.NodeProto] = []
    for node in nodes:
        waiting = [node]
        while waiting:
            top = waiting[-1]
            needed = [producers[n] for n in (*top.input, *captured(top)) if n in producers]
            needed = [other for other in needed if id(other) not in done and other is not top]
            if needed and id(top) not in done:
                waiting += needed
                continue
            waiting.pop()
            if id(top) not in done:
                done.add(id(top))
                ordered.append(top)
    return ordered
