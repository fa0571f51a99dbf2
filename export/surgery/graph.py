"""The graph that surgery reads: values, their makers and readers, and what is known of each.

Names are handles and mean nothing: a rule asks for operators, attributes, constants and who reads
what. A `Graph` is made by `fold` and not changed afterwards.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

__all__ = ["Graph", "Node", "Shape", "free_names", "outer_names"]

Shape = tuple[int | None, ...]


@dataclass(eq=False, frozen=True)
class Node:
    """One operator.

    Attributes:
        op: `op_type`, with the domain and `::` before it unless it is ONNX's own.
        inputs: names; "" where an optional one is left out.
        outputs: names.
        attributes: as Python values.
        label: what the original graph calls it; for messages alone.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    label: str = ""

    def __str__(self) -> str:
        """Return how messages name this node."""
        return f"{self.op} {self.label!r}" if self.label else self.op

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]

    def graphs(self) -> Iterator[onnx.GraphProto]:
        """Yield the bodies of `If` and `Loop`."""
        for value in self.attributes.values():
            if isinstance(value, onnx.GraphProto):
                yield value


class Graph:
    """Nodes in topological order, with an index of makers and readers."""

    def __init__(
        self,
        nodes: Iterable[Node],
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        constants: dict[str, np.ndarray],
        types: dict[str, tuple[int, Shape | None]],
        opset: int,
        grown: dict[str, list[Node]] | None = None,
    ) -> None:
        """Index `nodes`; see the properties for what the rest is."""
        self.nodes = list(nodes)
        self.inputs = inputs
        self.outputs = outputs
        self.constants = constants
        self.types = types
        self.opset = opset
        self.grown = grown or {}  # constants that are better kept as the nodes that make them
        self._makers = {name: node for node in self.nodes for name in node.outputs if name}
        self._readers: defaultdict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys((*node.inputs, *outer_names(node))):
                if name:
                    self._readers[name].append(node)
        self.order = {id(node): index for index, node in enumerate(self.nodes)}

    def maker(self, name: str) -> Node | None:
        """Return the node that makes `name`; None for inputs and constants."""
        return self._makers.get(name)

    def readers(self, name: str) -> list[Node]:
        """Return the nodes that read `name`, those that read it inside a body included."""
        return self._readers.get(name, [])

    def users(self, name: str) -> list[Node]:
        """Return the nodes that read the numbers of `name`, and not merely its shape."""
        return [node for node in self.readers(name) if node.op not in ("Shape", "Size")]

    def value(self, name: str) -> np.ndarray | None:
        """Return the constant `name`, or None if it is none."""
        return self.constants.get(name)

    def shape(self, name: str) -> Shape | None:
        """Return the shape of `name`: None if not even its rank is known."""
        if name in self.constants:
            return self.constants[name].shape
        return self.types.get(name, (0, None))[1]

    def of(self, *ops: str) -> list[Node]:
        """Return the nodes with one of these operators, in topological order."""
        return [node for node in self.nodes if node.op in ops]


def outer_names(node: Node) -> Iterator[str]:
    """Yield the names of the surrounding graph that the bodies of `node` read."""
    for body in node.graphs():
        yield from free_names(body)


def free_names(body: onnx.GraphProto) -> Iterator[str]:
    """Yield what `body` and the bodies in it read from outside."""
    own = {t.name for t in body.initializer} | {i.name for i in body.input}
    for node in body.node:
        own.update(node.output)
    for node in body.node:
        yield from (name for name in node.input if name and name not in own)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from (name for name in free_names(attribute.g) if name not in own)
    yield from (o.name for o in body.output if o.name not in own)
