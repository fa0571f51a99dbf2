"""Where a detector's layers end: the tensors at which it chooses, and the last layers before them.

Whatever an NMS of domain `maskrt` puts out is chosen and not computed, so a graph is cut there. The
last layers are those behind which no layer comes before a cut or an output of the graph: they make
the class scores, the box deltas and the masks, and the proposals' own.
"""

import onnx

from ..core.operator_names import operator_of
from .graph import GraphIndex, captured
from .layers import Layer, find_layers

__all__ = ["cuts", "last_layers"]

_DOMAIN = "maskrt"


def cuts(model: onnx.ModelProto) -> list[str]:
    """Return the tensors that the NMS nodes put out and other nodes read."""
    graph = GraphIndex(model)
    own = [node for node in graph.nodes if node.domain == _DOMAIN]
    chosen = [node for node in own if operator_of(node.op_type).endswith("NMS")]
    return [name for node in chosen for name in node.output if graph.consumers.get(name)]


def last_layers(model: onnx.ModelProto) -> list[Layer]:
    """Return the layers behind which no layer comes before a cut or the end, in graph order."""
    graph = GraphIndex(model)
    layers = find_layers(graph)
    made, chosen = {layer.output for layer in layers}, set(cuts(model))
    leads_on: set[str] = set()
    for node in reversed(graph.nodes):
        ahead = any(name in leads_on and name not in chosen for name in node.output)
        if ahead or made.intersection(node.output):
            leads_on.update((*node.input, *captured(node)))
    return [layer for layer in layers if layer.result not in leads_on]
