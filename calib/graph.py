"""An index over an ONNX graph: who makes a tensor, who reads it, which tensors are constants.

Nodes with subgraphs (`If`, `Loop`, `Scan`) count as readers of every outer tensor that their bodies
mention, so a rule that asks for the readers of a tensor never misses one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["GraphIndex", "attribute", "captured", "is_standard"]

_STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class GraphIndex:
    """Read-only lookups into `model.graph`; make a new one after editing the graph."""

    model: onnx.ModelProto

    @cached_property
    def nodes(self) -> list[onnx.NodeProto]:
        """Nodes of the top-level graph, in topological order; always the same objects."""
        return list(self.model.graph.node)

    @cached_property
    def producers(self) -> dict[str, onnx.NodeProto]:
        """Tensor name → the node that makes it."""
        return {name: node for node in self.nodes for name in node.output if name}

    @cached_property
    def consumers(self) -> dict[str, list[onnx.NodeProto]]:
        """Tensor name → the nodes that read it, each once, in graph order."""
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys((*node.input, *captured(node))):
                readers.setdefault(name, []).append(node)
        return readers

    @cached_property
    def constants(self) -> dict[str, onnx.TensorProto]:
        """Initializers by name."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the graph's outputs."""
        return frozenset(value.name for value in self.model.graph.output)

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        graph = self.model.graph
        shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        for value in (*graph.input, *graph.output, *graph.value_info):
            dims = value.type.tensor_type.shape.dim
            if dims and all(dim.HasField("dim_value") for dim in dims):
                shapes[value.name] = tuple(dim.dim_value for dim in dims)
        return shapes

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the static shape that the graph states for `name`; empty if it states none."""
        return self._shapes.get(name, ())

    def array(self, name: str) -> np.ndarray:
        """Return the initializer `name` as an array."""
        return numpy_helper.to_array(self.constants[name])

    def only_consumer(self, name: str) -> onnx.NodeProto | None:
        """Return the one node that reads `name`, or None if it has several or is a graph output."""
        readers = self.consumers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def is_standard(node: onnx.NodeProto, *op_types: str) -> bool:
    """Whether `node` is one of the standard operators `op_types`."""
    return node.domain in _STANDARD_DOMAINS and node.op_type in op_types


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of a node's attribute, or `default`; strings come back as `str`."""
    for item in node.attribute:
        if item.name == name:
            value = onnx.helper.get_attribute_value(item)
            return value.decode() if isinstance(value, bytes) else value
    return default


def captured(node: onnx.NodeProto) -> list[str]:
    """Return the names of outer tensors, and of inner ones, that the node's subgraphs mention."""
    return [name for item in node.attribute for name in _names_in(item)]


def _names_in(item: onnx.AttributeProto) -> Iterator[str]:
    graphs = [item.g] if item.type == onnx.AttributeProto.GRAPH else list(item.graphs)
    for graph in graphs:
        for node in graph.node:
            yield from node.input
            yield from captured(node)
        yield from (value.name for value in graph.output)
