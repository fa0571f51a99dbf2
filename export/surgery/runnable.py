"""A file in a form that ONNX Runtime has kernels for, meaning what it meant.

From opset 22 on, RoiAlign and MaxRoiPool have no kernel on the CPU
(findings/roialign_newest_opset.sh). What opsets 22 to 24 changed of the operators that were there
is types that they take besides, and an attribute of Cast that only one of those types knows; so a
graph that has neither is, word for word, one of opset 21.
"""

from collections.abc import Iterator

import onnx
from onnx.defs import SchemaError, get_schema

from ...core import UnsupportedModelError

__all__ = ["runnable"]

_WITHOUT_KERNEL = ("RoiAlign", "MaxRoiPool")
_LAST_WITH = 21
_OURS = ("", "ai.onnx")


def runnable(model: onnx.ModelProto, file: object) -> onnx.ModelProto:
    """Return `model`, or the same under opset 21 if ONNX Runtime would not run it.

    Args:
        model: any.
        file: names it in a message.

    Raises:
        UnsupportedModelError: it needs what opset 21 does not have.
    """
    nodes = list(_nodes(model))
    versions = [o.version for o in _imports(model)]
    if max(versions, default=0) <= _LAST_WITH or not any(
        node.op_type in _WITHOUT_KERNEL for node in nodes
    ):
        return model
    newer = next((node for node in nodes if node.domain in _OURS and not _is_older(node)), None)
    if newer is not None:
        raise UnsupportedModelError(
            f"{file} has opset {max(versions)}, of which ONNX Runtime runs no RoiAlign, and its "
            f"{newer.op_type} {newer.name!r} is no operator of opset {_LAST_WITH}, so it cannot be "
            "compared with: export it anew with opset_version=17."
        )
    older = onnx.ModelProto()
    older.CopyFrom(model)
    for imported in _imports(older):
        imported.version = min(imported.version, _LAST_WITH)
    return older


def _is_older(node: onnx.NodeProto) -> bool:
    """Whether `node` may stand in a graph of opset 21."""
    try:
        schema = get_schema(node.op_type, _LAST_WITH, "")
    except SchemaError:
        return False
    fits = schema.min_input <= len(node.input) <= schema.max_input
    return fits and all(attribute.name in schema.attributes for attribute in node.attribute)


def _imports(model: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    places = (model, *model.functions)
    return [o for place in places for o in place.opset_import if o.domain in _OURS]


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of the graph, of bodies in it and of functions."""
    waiting = [*model.graph.node, *(node for f in model.functions for node in f.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            bodies = (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs)
            waiting += [inner for body in bodies for inner in body.node]
