"""A file in half or double precision as one of single precision: the same weights, in FP32.

Canonical graphs are FP32, and their precision is a recipe's matter. What a half-precision file adds
to its weights' own rounding is the rounding of each node, which differs from machine to machine.
Doubles are rounded to the 24 bits that any engine computes with; a file has them because its model
was cast to them, and only then they are touched: shape arithmetic in doubles is left as it is.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

__all__ = ["in_float32", "other_precision", "precision_words"]

_HALF, _DOUBLE, _FLOAT = (
    int(kind) for kind in (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT)
)
_LAYERS = ("Conv", "ConvTranspose", "Gemm")


def other_precision(model: onnx.ModelProto) -> int:
    """Return the type, FLOAT16 or DOUBLE, that `model` computes in instead of FLOAT; else 0.

    A file is half if a weight or its picture is; double if its picture or the weight of a layer is.
    """
    taken = {info.type.tensor_type.elem_type for info in model.graph.input}
    if _HALF in taken or any(tensor.data_type == _HALF for tensor in model.graph.initializer):
        return _HALF
    wide = {tensor.name for tensor in model.graph.initializer if tensor.data_type == _DOUBLE}
    layers = (node for node in model.graph.node if node.op_type in _LAYERS)
    return _DOUBLE if _DOUBLE in taken or any(wide.intersection(n.input) for n in layers) else 0


def precision_words(kind: int) -> str:
    """Return what `other_precision` found, "FP16" or "FP64"; "" for nothing."""
    return {_HALF: "FP16", _DOUBLE: "FP64"}.get(kind, "")


def in_float32(model: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    """Return a copy of `model` in which all that was of the type `kind` is FP32."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    for graph in _graphs(single.graph):
        _convert(graph, kind)
    return single


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _convert(graph: onnx.GraphProto, kind: int) -> None:
    for tensor in graph.initializer:
        _convert_tensor(tensor, kind)
    for info in (*graph.input, *graph.output):
        if info.type.tensor_type.elem_type == kind:
            info.type.tensor_type.elem_type = _FLOAT
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == kind:
                attribute.i = _FLOAT
            elif attribute.HasField("t"):
                _convert_tensor(attribute.t, kind)


def _convert_tensor(tensor: TensorProto, kind: int) -> None:
    if tensor.data_type == kind:
        value = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
