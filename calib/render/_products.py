"""A MatMul of rows by weights and the Add of its bias, as the one Gemm that they are.

    y[..., n] = sum_k x[..., k] * W[k, n] + b[n]

ONNX Runtime makes this Gemm itself, and then computes it in float unless its result is quantised,
since the bias that it took in is one of floats. Written as a Gemm, the bias gets the grid of the
accumulators like that of any other layer.
"""

from collections.abc import Collection

import numpy as np
import onnx

from ..graph import GraphIndex, is_standard
from ..layers import Layer, find_layers
from ._edit import GraphEdit

__all__ = ["sum_products"]


def sum_products(
    model: onnx.ModelProto, names: Collection[str]
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Rewrite those of the layers `names` that are a MatMul whose one reader adds a bias.

    The Gemm keeps the layer's name.

    Returns:
        The model, and new tensor -> the tensor of the original graph that it is a rearrangement of.
    """
    edit = GraphEdit(model)
    origin: dict[str, str] = {}
    for layer in find_layers(edit.before):
        if layer.name not in names or layer.op_type != "MatMul":
            continue
        found = _biased(edit.before, layer)
        if found is not None:
            origin.update(_rewrite(edit, layer, *found))
    return (edit.finish() if origin else model), origin


def _biased(graph: GraphIndex, layer: Layer) -> tuple[onnx.NodeProto, str] | None:
    """Return the Add and its constant, a number for each output; None where there is none."""
    reader = graph.only_consumer(layer.output)
    if reader is None or not is_standard(reader, "Add"):
        return None
    bias = reader.input[1] if reader.input[0] == layer.output else reader.input[0]
    outputs = graph.constants[layer.weight].dims[1]
    if bias not in graph.constants or not graph.shape(reader.output[0]):
        return None
    dims = list(graph.constants[bias].dims)
    one_each = dims[-1:] == [outputs] and all(size == 1 for size in dims[:-1])
    return (reader, bias) if one_each and len(graph.shape(layer.data)) >= len(dims) else None


def _rewrite(edit: GraphEdit, layer: Layer, add: onnx.NodeProto, bias: str) -> dict[str, str]:
    """Replace the two nodes; return the origin of the new tensors."""
    graph = edit.before
    inputs, outputs = graph.constants[layer.weight].dims
    result = add.output[0]
    edit.remove(graph.producers[layer.output])
    edit.remove(add)

    def reshaped(tensor: str, output: str, *shape: int) -> str:
        sizes = edit.constant(f"{output}_shape", np.array(shape, np.int64))
        return edit.node("Reshape", [tensor, sizes], output)

    rows = reshaped(layer.data, edit.fresh(f"{layer.output}_rows"), -1, inputs)
    flat = edit.constant(f"{layer.output}_bias", graph.array(bias).reshape(outputs))
    sums = edit.fresh(f"{result}_rows")
    edit.node("Gemm", [rows, layer.weight, flat], sums, name=layer.name)
    reshaped(sums, result, *graph.shape(result))
    return {rows: layer.data, sums: result}
