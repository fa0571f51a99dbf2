"""Joins TopKs that do not wait for each other, as those of a pyramid's levels do not.

TensorRT-RTX makes two kernels of the TopK of a level: one that brings the scores into rows, one
that sorts. Rows of different lengths, filled with -∞ at their ends, are sorted together:

    values, indices = TopK(Concat(Pad(x₁), Pad(x₂), ...), max K);   vᵢ = values[:, i, :Kᵢ]

A row is at least as long as its K, and what fills it comes after all of it, so no index points
there. A launch takes about as long as moving a megabyte, so a row is not filled with more than the
two launches are worth.

pattern: TopK of FLOAT rows `[B, N]` along N with a constant K of at most 3840, largest first,
sorted; two or more behind which the same number of them has been.
declines: other axes, types and shapes that the graph does not state, rows of very different length.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .long_topk import MOST, constants_of, count_of
from .lowered import nodes_within
from .tensor_types import static_types

__all__ = ["join_topk"]

_TWO_LAUNCHES_BYTES = 2 << 20
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class _Row:
    """A TopK that can be joined: of `[batch, length]`, the best `count`."""

    node: onnx.NodeProto
    batch: int
    length: int
    count: int


def join_topk(model: onnx.ModelProto) -> list[list[str]]:
    """Join the TopKs that match, in place; return the names of those that became one, each time."""
    graph = model.graph
    groups = [group for group in _groups(_rows(model)) if len(group) > 1]
    if not groups:
        return []
    gone = {row.node.output[0] for group in groups for row in group}
    nodes = [node for node in graph.node if node.output[0] not in gone]
    for group in groups:
        nodes += _joined(group, graph)
    del graph.node[:]
    graph.node.extend(_in_order(nodes))
    return [[row.node.name for row in group] for group in groups]


def _rows(model: onnx.ModelProto) -> list[list[_Row]]:
    """Return the TopKs that can be joined by how many TopKs come before them, on their way."""
    constants = constants_of(model.graph)
    found = [node for node in model.graph.node if 0 < count_of(node, constants) <= MOST]
    known = static_types(model) if len(found) > 1 else {}
    wanted = {node.output[0]: known.get(node.input[0]) for node in found}
    depth: dict[str, int] = defaultdict(int)
    by_depth: dict[int, list[_Row]] = defaultdict(list)
    for node in model.graph.node:  # in topological order
        before = max((depth[name] for name in _reads(node)), default=0)
        kind = wanted.get(node.output[0])
        if kind is not None and kind[0] == TensorProto.FLOAT and _sorts_rows(node, len(kind[1])):
            row = _Row(node, *kind[1], count_of(node, constants))
            by_depth[before].append(row)
        depth.update(dict.fromkeys(node.output, before + (node.op_type == "TopK")))
    return list(by_depth.values())


def _sorts_rows(node: onnx.NodeProto, rank: int) -> bool:
    axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
    return rank == 2 and axis in (-1, 1)


def _groups(depths: list[list[_Row]]) -> Iterator[list[_Row]]:
    """Yield those that are worth joining, the longest first."""
    for rows in depths:
        left = sorted(rows, key=lambda row: -row.length)
        while left:
            longest = left[0]
            group = [row for row in left if _is_worth(row, longest)]
            left = [row for row in left if row not in group]
            yield group


def _is_worth(row: _Row, longest: _Row) -> bool:
    """Whether filling `row` up, written once and read once, costs less than what is launched."""
    filled = 2 * _FLOAT_BYTES * row.batch * (longest.length - row.length)
    return row.batch == longest.batch and filled <= _TWO_LAUNCHES_BYTES


def _joined(group: list[_Row], graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that stand for a group; their constants join `graph`."""
    longest, most = group[0].length, max(row.count for row in group)
    name = f"{group[0].node.name}.joined"

    def constant(role: str, value: object, dtype: type = np.int64) -> str:
        tensor = numpy_helper.from_array(np.array(value, dtype), f"{name}.{role}")
        graph.initializer.append(tensor)
        return str(tensor.name)

    lowest, zero = constant("lowest", -np.inf, np.float32), constant("zero", [0])
    rows = []
    for index, row in enumerate(group):
        rows.append(row.node.input[0])
        if row.length < longest:
            pads = constant(f"pads{index}", [0, 0, 0, longest - row.length])
            yield helper.make_node("Pad", [rows[-1], pads, lowest], [f"{name}.row{index}"],
                                   f"{name}.pad{index}")  # fmt: skip
            rows[-1] = f"{name}.row{index}"
    yield helper.make_node("Concat", rows, [f"{name}.flat"], f"{name}.flat", axis=1)
    shape = constant("shape", [group[0].batch, len(group), longest])
    yield helper.make_node("Reshape", [f"{name}.flat", shape], [f"{name}.rows"], f"{name}.rows")
    outputs = [f"{name}.values", f"{name}.indices"]
    yield helper.make_node("TopK", [f"{name}.rows", constant("k", [most])], outputs, name)
    for index, row in enumerate(group):
        at = constant(f"at{index}", index)
        for whole, output in zip(outputs, row.node.output, strict=True):
            part = output if row.count == most else f"{output}.all"
            yield helper.make_node("Gather", [whole, at], [part], f"{output}.of", axis=1)
            if row.count < most:
                ends, axes = (
                    constant(f"{output}.ends", [row.count]),
                    constant(f"{output}.axes", [1]),
                )
                yield helper.make_node("Slice", [part, zero, ends, axes], [output], f"{output}.cut")


def _in_order(nodes: list[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield `nodes` in topological order, and in their old one where that does not matter."""
    missing = {name for node in nodes for name in node.output if name}
    while nodes:
        later = []
        for node in nodes:
            if missing.isdisjoint(_reads(node)):
                missing.difference_update(node.output)
                yield node
            else:
                later.append(node)
        nodes = later


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what a node reads, its subgraphs included."""
    yield from filter(None, node.input)
    holder = helper.make_graph([node], "holder", [], [])
    for inner in nodes_within(holder):
        yield from filter(None, inner.input)
