"""What ONNX Runtime makes of a graph: the operator and the type that each layer really has.

ONNX Runtime fuses Q/DQ around a layer into one integer operator, or leaves the layer in float with
the Q/DQ beside it, and says nothing either way. The optimised graph tells: an integer operator
(`QLinearConv`, `QGemm`, ...) under the layer's name is INT8, anything else is float.

Names: the graph is optimised at level EXTENDED, where all of those fusions happen and every node
keeps its name. What ALL adds, and runs with, are memory layouts (NCHWc, NHWC), which rename nodes
and leave operators and types as they are.
"""

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from ...core import Precision
from .engine import Found
from .layers import HeavyLayer

__all__ = ["precisions_in", "save_optimised"]

_INTEGER = {
    "QLinearConv",
    "QLinearConvTranspose",
    "ConvInteger",
    "QGemm",
    "QLinearMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "QAttention",
}
_FUSED = "fused "  # what ONNX Runtime puts before the name of a Gemm that took its activation in
_SUMMED = "/MatMulAddFusion"  # and behind that of a MatMul that took its bias in
_FLOAT = {"Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedGemm", "FusedMatMul"}


def save_optimised(runtime: Any, model: Path, optimised: Path) -> None:
    """Have ONNX Runtime write what it makes of `model` at level EXTENDED to `optimised`."""
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(optimised)
    options.log_severity_level = 4  # what is an error is raised as well
    options.intra_op_num_threads = 1  # nothing is run
    runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def precisions_in(optimised: onnx.ModelProto, layers: list[HeavyLayer]) -> Found:
    """Return what each layer computes in; None for one that is not found under its name."""
    graph = optimised.graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    found = {
        node.name.removeprefix(_FUSED).removesuffix(_SUMMED): _precision(node, types)
        for node in graph.node
        if node.op_type in _INTEGER | _FLOAT
    }
    return {layer.name: found.get(layer.name) for layer in layers}


def _precision(node: onnx.NodeProto, types: dict[str, int]) -> Precision:
    if node.op_type in _INTEGER:
        return Precision.INT8
    half = any(types.get(name) == TensorProto.FLOAT16 for name in node.input)
    return Precision.FP16 if half else Precision.FP32
