"""The layers whose precision matters, and what a rendered graph wants each of them to compute in.

A *heavy layer* is a Conv or ConvTranspose, or a Gemm or MatMul with constant weights: a tensor that
leads back to an initializer through Cast, Q/DQ and data movement alone. The rendered graph says
what it wants of a layer in ONNX's own terms:

* **int8**, when its weights come out of a DequantizeLinear. Its data then should too; if it does
  not, no runtime can grant the wish, and that has to be noticed. Quantised data alone is no wish:
  a layer left wide on purpose reads its neighbour's quantised result.
* **fp8**, when they come out of one of float8;
* **fp16**, when its weights are FLOAT16 (ONNX gives data and weights one type), or are widened from
  it by a Cast; **bf16** likewise;
* **fp32** otherwise.
"""

from dataclasses import dataclass
from functools import cached_property

import onnx
from onnx import TensorProto, helper

from ...core import Precision

__all__ = ["WIDTH_BITS", "HeavyLayer", "find_heavy_layers", "name_heavy_layers"]

WIDTH_BITS = {
    Precision.INT8: 8, Precision.FP8: 8, Precision.FP16: 16, Precision.BF16: 16, Precision.FP32: 32
}  # fmt: skip
_MOVES = {"Identity", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"}
_CONVERTS = {"Cast", "QuantizeLinear", "DequantizeLinear"}
_UNSAFE = str.maketrans(dict.fromkeys('"[]{}\\\x1f\n\r\t', "_"))


@dataclass(frozen=True)
class HeavyLayer:
    """One heavy layer of a rendered graph.

    Attributes:
        name: the node's name, unique in the graph after `name_heavy_layers`.
        op_type: ONNX operator.
        wanted: what the graph has it compute in.
    """

    name: str
    op_type: str
    wanted: Precision


def name_heavy_layers(model: onnx.ModelProto) -> None:
    """Give every node a name of its own, of characters that survive a plan's text; in place.

    A name that is unique and plain already is kept, so it stays the module path of the export.
    """
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        plain = (node.name or f"{node.op_type}_{index}").translate(_UNSAFE)
        name, count = plain, 1
        while name in taken:
            name, count = f"{plain}_{count}", count + 1
        taken.add(name)
        node.name = name


def find_heavy_layers(model: onnx.ModelProto) -> list[HeavyLayer]:
    """Return the heavy layers of the main graph, in its order."""
    graph = _Graph(model.graph)
    return [
        HeavyLayer(node.name, node.op_type, graph.wanted(node))
        for node in model.graph.node
        if graph.is_heavy(node)
    ]


@dataclass(frozen=True)
class _Graph:
    """Who produces a tensor, and what is constant."""

    proto: onnx.GraphProto

    @cached_property
    def producers(self) -> dict[str, onnx.NodeProto]:
        return {name: node for node in self.proto.node for name in node.output if name}

    @cached_property
    def element_types(self) -> dict[str, int]:
        return {tensor.name: tensor.data_type for tensor in self.proto.initializer}

    def is_heavy(self, node: onnx.NodeProto) -> bool:
        if node.domain not in ("", "ai.onnx"):
            return False
        if node.op_type in ("Conv", "ConvTranspose"):
            return True
        return node.op_type in ("Gemm", "MatMul") and self.weights_of(node) is not None

    def weights_of(self, node: onnx.NodeProto) -> str | None:
        """Return the input of `node` that holds constant weights of two dimensions or more."""
        names = (node.input[1], node.input[0]) if node.op_type == "MatMul" else (node.input[1],)
        return next((name for name in names if self._leads_to_constant(name)), None)

    def wanted(self, node: onnx.NodeProto) -> Precision:
        weights = self.weights_of(node) or node.input[1]
        source = self.producers.get(weights)
        if source is not None and source.op_type == "DequantizeLinear":
            fp8 = self.element_types.get(source.input[0]) == TensorProto.FLOAT8E4M3FN
            return Precision.FP8 if fp8 else Precision.INT8
        if self._was(TensorProto.BFLOAT16, weights):
            return Precision.BF16
        return Precision.FP16 if self._was(TensorProto.FLOAT16, weights) else Precision.FP32

    def _leads_to_constant(self, name: str) -> bool:
        if name in self.element_types:
            return True
        producer = self.producers.get(name)
        if producer is None:
            return False
        if producer.op_type == "Constant":
            return True
        return producer.op_type in _MOVES | _CONVERTS and self._leads_to_constant(producer.input[0])

    def _was(self, kind: int, name: str) -> bool:
        """Whether the weights `name` are of a type, such as FLOAT16, or were before Casts."""
        if name in self.element_types:
            return self.element_types[name] == kind
        producer = self.producers.get(name)
        if producer is None:
            return False
        attributes = {a.name: helper.get_attribute_value(a) for a in producer.attribute}
        if producer.op_type == "Cast" and attributes["to"] == kind:
            return True
        if producer.op_type == "Constant":
            value = attributes.get("value")
            return isinstance(value, TensorProto) and value.data_type == kind
        return producer.op_type in {"Cast"} | _MOVES and self._was(kind, producer.input[0])
