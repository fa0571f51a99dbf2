"""Gives each Gather from joined tensors a Concat of its own, so that TensorRT-RTX writes none.

A Concat that one Gather reads is a part of that kernel, which reads the tensors as they are. One
that two of them read is written by the first for the second, and equal Concats are merged. So all
but the first get one that differs, in that it joins the first tensor from two parts:

    a, b → Concat → Gather, Gather      becomes      a, b                    → Concat → Gather
                                                     Slice(a), Slice(a), b   → Concat → Gather

pattern: Concat read by two or more Gathers or GatherElements as their data, and by nothing else.
declines: any other reader, an output of the graph, and a first tensor that has no two parts, or
whose shape the graph does not state.
"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .lowered import nodes_within
from .tensor_types import static_types

__all__ = ["give_gathers_own_concats"]

_GATHERS = ("Gather", "GatherElements")


def give_gathers_own_concats(model: onnx.ModelProto) -> list[str]:
    """Rewrite every Concat that matches, in place; return the names of those."""
    graph = model.graph
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    held = {info.name for info in graph.output}
    held |= {name for node in nodes_within(graph) for name in node.input}
    matched = [
        node
        for node in graph.node
        if node.op_type == "Concat"
        and node.output[0] not in held
        and len(readers[node.output[0]]) > 1
        and all(_gathers_from(reader, node.output[0]) for reader in readers[node.output[0]])
    ]
    known = static_types(model) if matched else {}
    names = []
    for node in matched:
        axis, kind = node.attribute[0].i, known.get(node.input[0])
        if kind is None or kind[1][axis] < 2:
            continue
        for index, reader in enumerate(readers[node.output[0]][1:]):
            own = f"{node.output[0]}.own{index}"
            reader.input[0] = own
            place = list(graph.node).index(reader)
            for made in reversed(list(_in_parts(node, own, kind[1][axis] // (index + 2), graph))):
                graph.node.insert(place, made)
        names.append(node.name)
    return names


def _gathers_from(node: onnx.NodeProto, name: str) -> bool:
    return node.op_type in _GATHERS and node.input[0] == name and name not in node.input[1:]


def _in_parts(
    node: onnx.NodeProto, own: str, first: int, graph: onnx.GraphProto
) -> Iterator[onnx.NodeProto]:
    """Yield `node` with its first tensor in two parts, `first` long and the rest, as `own`."""
    axis = node.attribute[0].i
    edges = [0, first, np.iinfo(np.int64).max]
    for role, value in (("axis", axis), *((f"edge{i}", edge) for i, edge in enumerate(edges))):
        tensor = numpy_helper.from_array(np.array([value], np.int64), f"{own}.{role}")
        graph.initializer.append(tensor)
    parts = [f"{own}.part{index}" for index in range(2)]
    for index, part in enumerate(parts):
        ends = [f"{own}.edge{index}", f"{own}.edge{index + 1}", f"{own}.axis"]
        yield helper.make_node("Slice", [node.input[0], *ends], [part], part)
    yield helper.make_node("Concat", [*parts, *node.input[1:]], [own], own, axis=axis)
