"""Nodes that are no layers and yet decide what a transformer makes: where each computes, and why.

A layer multiplies by constant weights (`layers.py`), and a recipe gives it a precision. These do
not, and stay in floats in every engine:

    products        MatMul or Einsum of tensors that all come from the picture: attention's scores
                    and means, and a mask head's mixing of features
    softmax         Softmax
    normalisation   LayerNormalization, InstanceNormalization and GroupNormalization, or
                    (x - mean) / sqrt(mean((x - mean)^2) + eps) node by node
    gelu            x (1 + erf(x / sqrt 2)) / 2, node by node; `Gelu` itself follows its layers
    sampling        GridSample

Each is named by one node: of a layer norm in parts the Div, of a GELU in parts the Erf.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from .graph import GraphIndex, is_standard
from .placement import moves_data

__all__ = ["Others", "find_others", "others_from_json", "others_to_json"]

_REASONS = {
    "products": "both factors come from the picture: there are no constant weights to scale",
    "softmax": "eight bits round its small probabilities to 0, and FP16 its sums",
    "normalisation": "squares and their mean leave FP16's range",
    "gelu": "Erf and what is multiplied by it are FP32, as one",
    "sampling": "it interpolates at places finer than eight bits",
}
_NORMS = ("LayerNormalization", "InstanceNormalization", "GroupNormalization")
_PICKS = ("GatherND", "GatherElements", "Expand", "Tile")


@dataclass(frozen=True)
class Others:
    """The nodes of one kind.

    Attributes:
        nodes: their names, in graph order; a node without one goes by its first output.
        reason: why they are FP32.
    """

    nodes: tuple[str, ...]
    reason: str


def find_others(model: onnx.ModelProto) -> dict[str, Others]:
    """Return kind → its nodes, for the kinds of the table that the top-level graph has."""
    graph = GraphIndex(model)
    found: dict[str, list[str]] = {}
    for node in graph.nodes:
        kind = _kind(graph, node)
        if kind:
            found.setdefault(kind, []).append(node.name or node.output[0])
    return {
        kind: Others(tuple(found[kind]), why) for kind, why in _REASONS.items() if kind in found
    }


def _kind(graph: GraphIndex, node: onnx.NodeProto) -> str | None:
    if is_standard(node, "Softmax"):
        return "softmax"
    if is_standard(node, "GridSample"):
        return "sampling"
    if is_standard(node, "Erf"):
        return "gelu"
    if is_standard(node, *_NORMS) or _is_norm(graph, node):
        return "normalisation"
    if is_standard(node, "MatMul", "Einsum") and not any(
        _is_constant(graph, name) for name in node.input
    ):
        return "products"
    return None


def _is_constant(graph: GraphIndex, name: str) -> bool:
    """Whether a tensor is a constant, moved or picked at most."""
    while name not in graph.constants:
        node = graph.producers.get(name)
        if node is None or not (is_standard(node, *_PICKS) or moves_data(node)):
            return False
        name = node.input[0]
    return True


def _is_norm(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    """Whether `node` divides `x - mean(x)` by the root of the mean of its square."""
    if not is_standard(node, "Div"):
        return False
    root = _made_by(graph, node.input[1], "Sqrt")
    summed = _made_by(graph, root.input[0], "Add") if root is not None else None
    if summed is None:
        return False
    means = [_made_by(graph, name, "ReduceMean") for name in summed.input]
    mean = next((one for one in means if one is not None), None)
    square = _made_by(graph, mean.input[0], "Pow", "Mul") if mean is not None else None
    if square is None or square.input[0] != node.input[0]:
        return False
    centred = _made_by(graph, node.input[0], "Sub")
    own = _made_by(graph, centred.input[1], "ReduceMean") if centred is not None else None
    return own is not None and centred is not None and own.input[0] == centred.input[0]


def _made_by(graph: GraphIndex, name: str, *kinds: str) -> onnx.NodeProto | None:
    node = graph.producers.get(name)
    return node if node is not None and is_standard(node, *kinds) else None


def others_to_json(others: Mapping[str, Others]) -> dict[str, Any]:
    """Return plain JSON data; `others_from_json` is its inverse."""
    return {
        kind: {"precision": "fp32", "reason": one.reason, "nodes": list(one.nodes)}
        for kind, one in others.items()
    }


def others_from_json(data: Mapping[str, Any]) -> dict[str, Others]:
    """Return what `others_to_json` wrote."""
    return {
        str(kind): Others(tuple(map(str, one["nodes"])), str(one["reason"]))
        for kind, one in data.items()
    }
