"""A product over few channels as a sum of products, so that TensorRT-RTX computes it on the way.

An instance's own convolutions, as CondInst's, multiply `[.., M, C]` by `[.., C, N]` for a C of
about ten and N pixels. As GEMMs, each writes `[.., M, N]` for the next one to read, and what lies
between them is copied. As

    y[.., m, n] = sum over c of  a[.., m, c] · b[.., c, n]

with the sum written out, in FP32, all of them and what lies between them are one generated kernel,
which keeps nothing in memory.

pattern: MatMul of two FP32 tensors, neither constant, over 2 to 16 channels and at least 64 pixels.
declines: constants (a layer), one row (`single_rows.py`), shapes that the graph does not state.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .tensor_types import static_types

__all__ = ["sum_short_products"]

_MOST_CHANNELS = 16
_LEAST_PIXELS = 64


def sum_short_products(model: onnx.ModelProto) -> list[str]:
    """Rewrite every MatMul that matches, in place; return the names of those."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    products = [
        node
        for node in graph.node
        if node.op_type == "MatMul" and not constants.intersection(node.input)
    ]
    known = static_types(model) if products else {}
    matched = {
        node.output[0]: channels
        for node in products
        if (channels := _channels(*(known.get(name) for name in node.input)))
    }
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] in matched:
            nodes.extend(_as_sum(node, graph, matched[node.output[0]]))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return [node.name for node in products if node.output[0] in matched]


def _channels(
    rows: tuple[int, tuple[int, ...]] | None, columns: tuple[int, tuple[int, ...]] | None
) -> int:
    """Return C of FP32 `[.., M, C]` and `[.., C, N]` that match, else 0."""
    if rows is None or columns is None or {rows[0], columns[0]} != {TensorProto.FLOAT}:
        return 0
    shapes = rows[1], columns[1]
    fits = len(shapes[0]) == len(shapes[1]) > 2 and shapes[1][-1] >= _LEAST_PIXELS
    return shapes[0][-1] if fits and 1 < shapes[0][-1] <= _MOST_CHANNELS else 0


def _as_sum(
    node: onnx.NodeProto, graph: onnx.GraphProto, channels: int
) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that stand for `node`; their constants join `graph`."""
    name = node.name or node.output[0]

    def constant(role: str, value: int) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array([value]), f"{name}.{role}"))
        return f"{name}.{role}"

    edges = [constant(f"edge{index}", index) for index in range(channels + 1)]
    last, before = constant("last", -1), constant("before", -2)
    total = ""
    for index in range(channels):
        ends, term = edges[index : index + 2], f"{name}.term{index}"
        for source, axis, part in zip(node.input, (last, before), ("a", "b"), strict=True):
            yield helper.make_node("Slice", [source, *ends, axis], [f"{term}.{part}"],
                                   f"{term}.{part}")  # fmt: skip
        yield helper.make_node("Mul", [f"{term}.a", f"{term}.b"], [term], term)
        if total:
            sums = node.output[0] if index == channels - 1 else f"{name}.sum{index}"
            last_name = name if index == channels - 1 else sums
            yield helper.make_node("Add", [total, term], [sums], last_name)
            term = sums
        total = term
