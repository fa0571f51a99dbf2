"""From a rendered canonical graph to one in standard operators, as every builder takes it.

The layers are noted before lowering, while `maskrt` nodes are still single nodes: what their bodies
hold is no layer of the model. Lowering leaves the names of the other nodes alone, so a layer is
found in the finished engine by its name.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx

from ...core import Target, UnsupportedTargetError
from ...plugins import lower
from ...plugins.bodies import Form
from ...plugins.builtin import PLUGIN_DOMAIN
from .engine import shorten
from .layers import HeavyLayer, find_heavy_layers, name_heavy_layers

__all__ = ["Lowered", "batch_of", "lower_for", "nodes_within"]

_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class Lowered:
    """A model of standard operators, and the layers of the graph that it came from."""

    model: onnx.ModelProto
    layers: list[HeavyLayer]


def lower_for(
    target: Target,
    model: onnx.ModelProto,
    form: Form,
    *,
    first: Callable[[onnx.ModelProto], object] = lambda _: None,
) -> Lowered:
    """Return `model` lowered with the bodies of `form`; `model` itself is left alone.

    `first` rewrites the copy in place, while it still has `maskrt` nodes.

    In the form "builtin" it also holds nodes that TensorRT's own plugins run.

    Raises:
        UnsupportedTargetError: a node remains that is no standard operator.
    """
    named = onnx.ModelProto()
    named.CopyFrom(model)
    first(named)
    name_heavy_layers(named)
    layers = find_heavy_layers(named)
    lowered = lower(named, form)
    name_heavy_layers(lowered)
    nodes = (*lowered.graph.node, *nodes_within(lowered.graph))
    allowed = (*_STANDARD, PLUGIN_DOMAIN) if form == "builtin" else _STANDARD
    foreign = {f"{n.domain}::{n.op_type}" for n in nodes if n.domain not in allowed}
    if foreign:
        raise UnsupportedTargetError(
            f"target {target.name} takes standard ONNX operators only, and the lowered graph still "
            f"holds {shorten(sorted(foreign))}: give those nodes a body in plugins/."
        )
    return Lowered(lowered, layers)


def batch_of(model: onnx.ModelProto) -> int:
    """Return how many pictures a call computes: the first dimension of the first input."""
    return int(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value)


def nodes_within(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of all subgraphs of `graph`, at any depth; not those of `graph` itself."""
    for node in graph.node:
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from subgraph.node
                yield from nodes_within(subgraph)
