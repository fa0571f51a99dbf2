"""A product of one row and a matrix as products and a sum, because TensorRT-RTX copies the matrix.

A mask head multiplies the features of each detection by the weights of one class, `[.., 1, C]` by
`[.., C, N]`. TensorRT-RTX 1.7 makes a GEMM of it, wants the features of another layout for that
than a convolution writes, and copies them: of `maskrcnn_resnet50_fpn` 80 MB a frame. As

    y[.., 0, n] = sum over c of  a[.., 0, c] · b[.., c, n]

in FP32, one generated kernel reads them as they are.

pattern: MatMul of two tensors, neither constant, the first of which has one row.
declines: constants (a layer), and shapes that the graph does not state.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .tensor_types import static_types

__all__ = ["sum_single_rows"]


def sum_single_rows(model: onnx.ModelProto) -> list[str]:
    """Rewrite every MatMul that matches, in place; return the names of those."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    products = {
        node.output[0]
        for node in graph.node
        if node.op_type == "MatMul" and not constants.intersection(node.input)
    }
    known = static_types(model) if products else {}
    names: list[str] = []
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        row, matrix = (
            (known.get(name) for name in node.input) if node.output[0] in products else (None, None)
        )
        if row is not None and matrix is not None and _is_row(row, matrix):
            names.append(node.name)
            nodes.extend(_as_sum(node, graph, row))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return names


def _is_row(row: tuple[int, tuple[int, ...]], matrix: tuple[int, tuple[int, ...]]) -> bool:
    """Whether they are `[.., 1, C]` and `[.., C, N]` of one float type, with N > 1."""
    shapes = row[1], matrix[1]
    return (
        row[0] in (TensorProto.FLOAT, TensorProto.FLOAT16)
        and len(shapes[0]) == len(shapes[1]) > 2
        and shapes[0][-2] == 1
        and shapes[1][-1] > 1
    )


def _as_sum(
    node: onnx.NodeProto, graph: onnx.GraphProto, row: tuple[int, tuple[int, ...]]
) -> list[onnx.NodeProto]:
    """Return the nodes that stand for `node`; their constants join `graph`."""
    (kind, shape), name = row, node.name or node.output[0]
    axis, column = f"{name}.axis", f"{name}.column"
    graph.initializer.append(numpy_helper.from_array(np.array([-2], np.int64), axis))
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    wide = [f"{name}.{role}.float" for role in ("row", "matrix")]
    terms, total = f"{name}.terms", f"{name}.sum"
    return [
        *(
            helper.make_node("Cast", [source], [target], target, to=int(TensorProto.FLOAT))
            for source, target in zip(node.input, wide, strict=True)
        ),
        helper.make_node("Transpose", [wide[0]], [column], column, perm=order),
        helper.make_node("Mul", [column, wide[1]], [terms], terms),
        helper.make_node("ReduceSum", [terms, axis], [total], total, keepdims=1),
        helper.make_node("Cast", [total], list(node.output), name, to=kind),
    ]
