"""A file in half precision, widened: the same weights, computed in FP32.

Canonical graphs are FP32, and their precision is a recipe's matter. What a half-precision file adds
to its weights' own rounding is the rounding of each node, which differs from machine to machine.
"""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

__all__ = ["in_float32", "is_half"]

_HALF, _FLOAT = int(TensorProto.FLOAT16), int(TensorProto.FLOAT)


def is_half(model: onnx.ModelProto) -> bool:
    """Whether weights of `model` are FP16."""
    return any(tensor.data_type == _HALF for tensor in model.graph.initializer)


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of `model` in which all that was FP16 is FP32."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    _widen(wide.graph)
    return wide


def _widen(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for info in (*graph.input, *graph.output):
        if info.type.tensor_type.elem_type == _HALF:
            info.type.tensor_type.elem_type = _FLOAT
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == _HALF:
                attribute.i = _FLOAT
            elif attribute.HasField("t"):
                _widen_tensor(attribute.t)
            elif attribute.HasField("g"):
                _widen(attribute.g)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == _HALF:
        value = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
