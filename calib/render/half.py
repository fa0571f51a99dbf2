"""FP16 as a strongly typed graph: FP16 weights and activations, with a Cast at every border.

Which nodes compute in FP16 follows from the layers that do:

* the layers themselves, and the activation function fused into each;
* a node *between* them: an operator of `_BETWEEN` all of whose float inputs come out of FP16 nodes
  (or are constants), and from which an FP16 layer is reached over such operators alone;
* a MatMul of an FP16 tensor by weights that were only picked or moved (a mask head's weights of the
  detected classes), since it is a layer but for that.

Everything else is FP32: the normalisation of the picture, box decoding, softmax, NMS, every node of
domain `maskrt`, and a node between layers that makes a tensor which FP16 cannot hold (`wide`), such
as a residual sum of two tensors that it can.

A tensor `t` that an FP16 node makes is called `t_fp16`; where an FP32 node or the graph's output
needs it, a Cast makes `t` again. So a tensor that is both read inside and given out has one FP16
form, one FP32 form, and one Cast.

BF16 is the same with another type; a tensor's form is called `t_bf16`. TensorRT's parser takes it
at every opset, and ONNX's own checker only where the operators' later versions list bfloat16.
"""

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto

from ...core import Precision
from ..graph import GraphIndex, captured, is_standard
from ..layers import find_layers
from ..placement import moves_data
from ..scales import LARGEST_FP16
from ._edit import GraphEdit

__all__ = ["half_nodes", "render_half"]

_BETWEEN = (
    "Add", "AveragePool", "Clip", "Concat", "DequantizeLinear", "Div", "Elu", "Gelu",
    "GlobalAveragePool", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "PRelu", "Pad",
    "QuantizeLinear", "ReduceMean", "Relu", "Sigmoid", "Sub", "Tanh",
)  # fmt: skip
_FLOAT_INPUTS = {
    "Pad": (0, 2), "ReduceMean": (0,), "QuantizeLinear": (0, 1), "DequantizeLinear": (1,)
}  # fmt: skip
_TYPES = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}
_PICKS = ("GatherND", "GatherElements", "Expand", "Tile")


def render_half(
    model: onnx.ModelProto,
    names: Collection[str],
    precision: Precision = Precision.FP16,
    *,
    wide: Collection[str] = (),
    plain: onnx.ModelProto | None = None,
) -> onnx.ModelProto:
    """Return `model` with the layers `names`, and what lies between them, in FP16 or BF16.

    Args:
        model: the FP32 graph, or one with Q and DQ.
        names: of layers.
        precision: FP16 or BF16.
        wide: tensors that nothing between the layers makes in it.
        plain: the same without Q and DQ: where its weights come out of a DQ, a layer is not seen to
            be one.
    """
    edit = GraphEdit(model)
    layers = find_layers(edit.before if plain is None else GraphIndex(plain))
    chosen = {layer.output: layer.result for layer in layers if layer.name in names}
    nodes = half_nodes(edit.before, chosen, wide)
    half = {}
    for node in nodes:
        for name in _results(node) if node.op_type != "QuantizeLinear" else ():
            half[name] = edit.fresh(f"{name}_{precision}")
            edit.rename_output(name, half[name])
    _cast_back(edit, half, {id(node) for node in nodes})
    for node in nodes:
        for position in _float_inputs(node):
            name = node.input[position]
            if name not in half:
                half[name] = _to_half(edit, name, precision)
            edit.edited(node).input[position] = half[name]
    return edit.finish()


def half_nodes(
    graph: GraphIndex, chosen: dict[str, str], wide: Collection[str] = ()
) -> list[onnx.NodeProto]:
    """Return the nodes that compute in FP16, in topological order.

    Args:
        graph: the graph.
        chosen: output of each FP16 layer → its result.
        wide: tensors that nothing between the layers makes in FP16.
    """
    made: set[str] = set()  # tensors that may be FP16
    needed = {*chosen, *chosen.values()}  # tensors that are to be FP16
    able = []
    for node in graph.nodes:
        picked = _is_product_of_picked(graph, node, made)
        if picked:
            needed.add(node.output[0])
        between = node.output[0] not in wide and _is_between(graph, node, made)
        if picked or node.output[0] in needed or between:
            able.append(node)
            made.update(_results(node))
    kept = []
    for node in reversed(able):
        if needed.intersection(_results(node)):
            kept.append(node)
            needed.update(node.input[position] for position in _float_inputs(node))
            if node.op_type == "DequantizeLinear":
                needed.add(node.input[0])  # the int8 tensor: is its Q to read FP16?
    return kept[::-1]


def _is_between(graph: GraphIndex, node: onnx.NodeProto, made: set[str]) -> bool:
    """Whether `node` can be FP16: its float inputs are, and it is of the kind that lies between."""
    if not (is_standard(node, *_BETWEEN) or moves_data(node)) or captured(node):
        return False
    names = [node.input[position] for position in _float_inputs(node)]
    varying = [name for name in names if name not in graph.constants]
    if node.op_type == "DequantizeLinear":
        return not varying
    return bool(varying) and made.issuperset(varying)


def _is_product_of_picked(graph: GraphIndex, node: onnx.NodeProto, made: set[str]) -> bool:
    """Whether `node` multiplies an FP16 tensor by constant weights that were picked or moved."""
    if not is_standard(node, "MatMul"):
        return False
    first, second = node.input
    pairs = ((first, second), (second, first))
    return any(left in made and _is_picked(graph, right) for left, right in pairs)


def _is_picked(graph: GraphIndex, name: str) -> bool:
    producer = graph.producers.get(name)
    while producer is not None and (is_standard(producer, *_PICKS) or moves_data(producer)):
        name = producer.input[0]
        producer = graph.producers.get(name)
    return name in graph.constants


def _float_inputs(node: onnx.NodeProto) -> list[int]:
    """Return the positions of the inputs that have the node's float type."""
    positions = _FLOAT_INPUTS.get(node.op_type)
    if positions is None:
        positions = (0,) if moves_data(node) else tuple(range(len(node.input)))
    return [i for i in positions if i < len(node.input) and node.input[i]]


def _results(node: onnx.NodeProto) -> list[str]:
    """Return the outputs that hold a node's result; `MaxPool`'s second one holds indices."""
    outputs = node.output if node.op_type == "Split" else node.output[:1]
    return [name for name in outputs if name]


def _to_half(edit: GraphEdit, name: str, precision: Precision) -> str:
    """Return the 16-bit form of an FP32 tensor: a constant of its own, or a Cast."""
    if name not in edit.before.constants:
        return edit.node("Cast", [name], edit.fresh(f"{name}_{precision}"), to=_TYPES[precision])
    if precision is Precision.BF16:
        return edit.bf16_constant(f"{name}_bf16", edit.before.array(name))
    value = np.clip(edit.before.array(name), -LARGEST_FP16, LARGEST_FP16)
    return edit.constant(f"{name}_fp16", value.astype(np.float16))


def _cast_back(edit: GraphEdit, half: dict[str, str], inside: set[int]) -> None:
    """Give every FP32 reader of an FP16 tensor, and the graph's outputs, its FP32 form.

    That of a dequantised tensor is dequantised, too: behind a Cast, no layer is INT8.
    """
    graph = edit.before
    for name, half_name in list(half.items()):
        readers, producer = graph.consumers.get(name, []), graph.producers[name]
        if name not in graph.outputs and all(id(node) in inside for node in readers):
            continue
        if producer.op_type == "DequantizeLinear":
            edit.node("DequantizeLinear", list(producer.input), name)
        else:
            edit.node("Cast", [half_name], name, to=TensorProto.FLOAT)
