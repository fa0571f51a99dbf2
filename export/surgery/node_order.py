"""Nodes in topological order: a file need not have them so, and half-precision ones do not."""

import heapq
from collections.abc import Iterable, Sequence

import onnx

from .graph import free_names

__all__ = ["in_order"]


def in_order(nodes: Sequence[onnx.NodeProto], made: Iterable[str]) -> list[onnx.NodeProto]:
    """Return `nodes` with makers before readers; those that are in order already stay as they are.

    What reads a name that nothing makes, and what lies on a circle, comes last.

    Args:
        nodes: of one graph.
        made: names of inputs and initializers.
    """
    known = {*made, ""}
    if _is_ordered(nodes, set(known)):
        return list(nodes)
    makers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    readers: dict[int, list[int]] = {}
    missing = []
    for index, node in enumerate(nodes):
        sources = {makers[name] for name in _read(node) if name in makers} - {index}
        for source in sources:
            readers.setdefault(source, []).append(index)
        missing.append(len(sources))
    ready = [index for index, count in enumerate(missing) if not count]
    ordered = []
    while ready:
        index = heapq.heappop(ready)
        ordered.append(index)
        for reader in readers.get(index, ()):
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    left = sorted(set(range(len(nodes))) - set(ordered))
    return [nodes[index] for index in (*ordered, *left)]


def _is_ordered(nodes: Sequence[onnx.NodeProto], known: set[str]) -> bool:
    for node in nodes:
        if any(name not in known for name in node.input):
            return False
        known.update(node.output)
    return True


def _read(node: onnx.NodeProto) -> list[str]:
    """Return what `node` and the bodies in it read."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names += free_names(attribute.g)
    return names
