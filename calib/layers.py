"""What counts as a layer: a node that multiplies activations by constant weights.

| operator | weight | channels that get their own scale |
|---|---|---|
| `Conv` | `W[M, C/group, kh, kw]` | axis 0 |
| `ConvTranspose` | `W[C, M/group, kh, kw]` | none: one scale, TensorRT takes no other |
| `Gemm` | `B[K, N]`, or `[N, K]` with `transB` | axis of N |
| `MatMul` | `B[K, N]` | axis 1 |

The result of a layer is the tensor after its activation function where that is the layer's only
reader, since every runtime fuses the two.
"""

from dataclasses import dataclass

import onnx

from .graph import GraphIndex, attribute, is_standard

__all__ = ["ACTIVATIONS", "Layer", "find_layers", "fused_result"]

ACTIVATIONS = ("Relu", "Clip")
_LAYER_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Layer:
    """One Conv, ConvTranspose, Gemm or MatMul with constant weights.

    Attributes:
        name: the node's name; its first output where it has none.
        op_type: ONNX operator.
        data: the activation tensor that it reads.
        weight: initializer of the weights.
        bias: initializer of the bias, or None.
        output: the node's own output.
        result: the output after a fused activation function; `output` where there is none.
        axis: axis of `weight` that holds the output channels; None for one scale in all.
        input_channels: channels of `data` that the layer reads, over all groups.
    """

    name: str
    op_type: str
    data: str
    weight: str
    bias: str | None
    output: str
    result: str
    axis: int | None
    input_channels: int


def find_layers(graph: GraphIndex) -> list[Layer]:
    """Return the layers of the top-level graph, in topological order."""
    return [_layer(graph, node) for node in graph.nodes if _is_layer(graph, node)]


def _is_layer(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    if not is_standard(node, *_LAYER_OPS) or len(node.input) < 2:
        return False
    weight = graph.constants.get(node.input[1])
    if weight is None or weight.data_type != onnx.TensorProto.FLOAT:
        return False
    return node.op_type in ("Conv", "ConvTranspose") or len(weight.dims) == 2


def _layer(graph: GraphIndex, node: onnx.NodeProto) -> Layer:
    shape = graph.constants[node.input[1]].dims
    axis, channels = _channels(node, list(shape))
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    return Layer(
        name=node.name or node.output[0],
        op_type=node.op_type,
        data=node.input[0],
        weight=node.input[1],
        bias=bias,
        output=node.output[0],
        result=fused_result(graph, node.output[0]),
        axis=axis,
        input_channels=channels,
    )


def _channels(node: onnx.NodeProto, shape: list[int]) -> tuple[int | None, int]:
    """Return the output-channel axis of the weight, and the number of input channels."""
    if node.op_type == "Conv":
        return 0, shape[1] * attribute(node, "group", 1)
    if node.op_type == "ConvTranspose":
        return None, shape[0]
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        return 0, shape[1]
    return 1, shape[0]


def fused_result(graph: GraphIndex, output: str) -> str:
    """Return the output of the activation function that alone reads `output`, else `output`."""
    reader = graph.only_consumer(output)
    if reader is not None and is_standard(reader, *ACTIVATIONS) and reader.input[0] == output:
        return reader.output[0]
    return output
