"""The recipe for a deep learning accelerator: which nodes it takes, and why it leaves the others.

A DLA of Orin or Xavier computes convolutional networks in INT8 and FP16, and nothing else. Before
TensorRT 11.4 it takes INT8 from a calibration cache (`calibration_cache.py`), not from Q/DQ. What
it does not take falls back to the GPU without a word, one node at a time, and each island of nodes
between is a loadable of its own, of which a core holds 16. So the nodes are chosen here: the layers
that the recipe has in INT8 or FP16 and that meet the limits below, and what lies between them.

| node | limits |
|---|---|
| `Conv` | 2-D, kernel to 32, stride to 8, padding to 31, dilation to 32, channels to 8192 |
| `ConvTranspose` | 2-D, one group, not dilated or padded, kernel, stride to 22, channels to 8192 |
| `Relu`, `Sigmoid`, `Clip` at 0 and 1 to 127 | 4-D |
| `Add`, `Sub`, `Mul` | two feature maps of one shape |
| `MaxPool`, `AveragePool` | kernel to 8, stride to 16, padding to 7 |
| `Resize` | nearest, whole factors to 32 |
| `Concat` | of channels |

Batch to 4096, other dimensions to 8192; an island has one batch. `Gemm` and `MatMul` are matrix
products to TensorRT, which a DLA has none of.

Source: NVIDIA TensorRT, DLA Supported Layers and Restrictions. It has not run on a DLA.
"""

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from ...core import Precision
from ..graph import GraphIndex, attribute, is_standard
from ..layers import find_layers
from ..recipe import Recipe
from .calibration_cache import layer_types

__all__ = ["Accelerated", "accelerated"]

_LARGEST_BATCH, _LARGEST_SIZE = 4096, 8192


@dataclass(frozen=True)
class Accelerated:
    """What a DLA takes of a recipe; nodes go by their first output.

    Attributes:
        takes: nodes that run on it.
        leaves: layer that runs on the GPU -> why.
        loadables: how many islands the nodes are.
    """

    takes: frozenset[str]
    leaves: dict[str, str]
    loadables: int


def accelerated(model: onnx.ModelProto, recipe: Recipe) -> Accelerated:
    """Return what a DLA takes of `model` at the precisions of `recipe`.

    Raises:
        InputError: the recipe is for another graph.
    """
    narrow, free = layer_types(model, recipe)
    graph = GraphIndex(model)
    leaves = {}
    takes: set[str] = set()
    for layer in find_layers(graph):
        node = graph.producers[layer.output]
        reason = _refusal(graph, node)
        if not reason and layer.output not in narrow:
            reason = f"it is {Precision.FP32.value} in the recipe"
        if reason:
            leaves[layer.name] = reason
        else:
            takes.add(layer.output)
    takes |= {name for name in free if not _refusal(graph, graph.producers[name])}
    islands = _islands(graph, takes)
    layers = {layer.output for layer in find_layers(graph)}
    alone = [island for island in islands if not island & layers]  # nothing worth a loadable
    takes -= set().union(*alone)
    return Accelerated(frozenset(takes), leaves, len(islands) - len(alone))


def _refusal(graph: GraphIndex, node: onnx.NodeProto) -> str:
    """Return why a DLA does not take the node; nothing if it does."""
    rule = _RULES.get(node.op_type) if is_standard(node, node.op_type) else None
    if rule is None:
        return f"a DLA has no {node.op_type}"
    shape = graph.shape(node.output[0])
    if len(shape) != 4:
        return "it is not 2-D" if shape else "its shape is not known"
    if shape[0] > _LARGEST_BATCH or max(shape[1:]) > _LARGEST_SIZE:
        return f"{list(shape)} is beyond {_LARGEST_BATCH} x {_LARGEST_SIZE}"
    return rule(graph, node)


def _beyond(node: onnx.NodeProto, **limits: tuple[int, int]) -> str:
    """Return the first attribute that has a value outside its limits."""
    for name, (least, most) in limits.items():
        values = attribute(node, name, [])
        if any(not least <= value <= most for value in values):
            return f"{name} {list(values)} is not within {least} to {most}"
    return ""


def _beyond_weight(graph: GraphIndex, node: onnx.NodeProto, kernel: int) -> str:
    """Return what of the weight's sizes is too large; `kernel_shape` may be left out of a node."""
    dims = graph.constants[node.input[1]].dims
    if max(dims[:2]) > _LARGEST_SIZE:
        return f"it has more than {_LARGEST_SIZE} channels"
    return f"its kernel {list(dims[2:])} is beyond {kernel}" if max(dims[2:]) > kernel else ""


def _conv(graph: GraphIndex, node: onnx.NodeProto) -> str:
    return _beyond_weight(graph, node, 32) or _beyond(
        node, strides=(1, 8), pads=(0, 31), dilations=(1, 32)
    )


def _deconv(graph: GraphIndex, node: onnx.NodeProto) -> str:
    if attribute(node, "group", 1) != 1:
        return "it has groups"
    return _beyond_weight(graph, node, 22) or _beyond(
        node, strides=(1, 22), pads=(0, 0), dilations=(1, 1), output_padding=(0, 0)
    )


def _pool(graph: GraphIndex, node: onnx.NodeProto) -> str:
    if attribute(node, "ceil_mode", 0):
        return "it rounds its size up"
    return _beyond(node, kernel_shape=(1, 8), strides=(1, 16), pads=(0, 7), dilations=(1, 1))


def _sum(graph: GraphIndex, node: onnx.NodeProto) -> str:
    shapes = {graph.shape(name) for name in node.input}
    constant = any(name in graph.constants for name in node.input)
    if constant or len(shapes) > 1:
        return "its operands are not two feature maps of one shape"
    return ""


def _clip(graph: GraphIndex, node: onnx.NodeProto) -> str:
    bounds = [name for name in node.input[1:] if name in graph.constants]
    if len(bounds) == 2:
        least, most = (float(graph.array(name)) for name in bounds)
        if least == 0 and 1 <= most <= 127:
            return ""
    return "it does not cut at 0 and 1 to 127"


def _resize(graph: GraphIndex, node: onnx.NodeProto) -> str:
    before, after = graph.shape(node.input[0]), graph.shape(node.output[0])
    if attribute(node, "mode", "nearest") != "nearest" or len(before) != 4:
        return "it is not nearest"
    whole = before[:2] == after[:2] and all(
        big % small == 0 and big // small <= 32
        for small, big in zip(before[2:], after[2:], strict=True)
    )
    return "" if whole else "its factors are not whole and to 32"


def _concat(graph: GraphIndex, node: onnx.NodeProto) -> str:
    return "" if attribute(node, "axis") == 1 else "it does not join channels"


def _plain(graph: GraphIndex, node: onnx.NodeProto) -> str:
    return ""


_RULES: dict[str, Callable[[GraphIndex, onnx.NodeProto], str]] = {
    "Conv": _conv,
    "ConvTranspose": _deconv,
    "Relu": _plain,
    "Sigmoid": _plain,
    "Clip": _clip,
    "Add": _sum,
    "Sub": _sum,
    "Mul": _sum,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "Resize": _resize,
    "Concat": _concat,
}


def _islands(graph: GraphIndex, takes: set[str]) -> list[set[str]]:
    """Return the sets of nodes that are joined by tensors of one batch."""
    islands: list[set[str]] = []
    for node in graph.nodes:
        name = node.output[0]
        if name not in takes:
            continue
        batch = graph.shape(name)[:1]
        near = {source for source in node.input if graph.shape(source)[:1] == batch}
        joined = [island for island in islands if island & near]
        islands = [island for island in islands if island not in joined]
        islands.append(set().union({name}, *joined))
    return islands
