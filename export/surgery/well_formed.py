"""Whether a graph from elsewhere is one that rules can read: whole tensors, nodes that fit.

ONNX's own checker wants nodes in order and knows no plugins, so it refuses files that surgery
reads. Here each thing is asked alone, bodies of `If` and `Loop` included:

    a name        is text
    a tensor      has a known type, and as many numbers as its shape says
    a node        of ONNX's own has the inputs, outputs and attributes that its operator needs, of
                  the types that it declares, and a body where it has one

Rules ask for attributes and inputs without looking whether they are there; this is why they may.
"""

import math
from collections.abc import Iterator
from typing import Any

import onnx
from onnx import AttributeProto, helper, numpy_helper
from onnx.defs import OpSchema

__all__ = ["malformed"]

_OURS = ("", "ai.onnx")
_MOST_BYTES = 1 << 33


def malformed(model: onnx.ModelProto) -> str | None:
    """Return what is wrong with the graph of `model` as a clause, or None.

    External data must have been read.
    """
    version = next((o.version for o in model.opset_import if o.domain in _OURS), 1)
    return next(_faults(model.graph, version), None)


def _faults(graph: onnx.GraphProto, version: int) -> Iterator[str]:
    infos = (*graph.input, *graph.output, *graph.value_info)
    named = (*graph.initializer, *infos, *graph.node)
    if any(not isinstance(one.name, str) for one in named):
        yield "it has a name that is no text"
        return
    for tensor in graph.initializer:
        yield from _tensor_faults(tensor)
    for info in infos:
        yield from _info_faults(info)
    for node in graph.node:
        if any(not isinstance(n, str) for n in (*node.input, *node.output, node.op_type)):
            yield "it has a name that is no text"
            return
        yield from _node_faults(node, version)


def _tensor_faults(tensor: onnx.TensorProto) -> Iterator[str]:
    wrong = f"the tensor {str(tensor.name)[:80]!r} does not have the numbers that its shape says"
    try:
        width = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if (
            min(tensor.dims, default=0) < 0
            or math.prod(tensor.dims) * width > _MOST_BYTES
            or numpy_helper.to_array(tensor).shape != tuple(tensor.dims)
        ):
            yield wrong
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError):
        yield wrong


def _info_faults(info: onnx.ValueInfoProto) -> Iterator[str]:
    kind = info.type.tensor_type
    sides = [dim.dim_value for dim in kind.shape.dim if dim.HasField("dim_value")]
    known = kind.elem_type in onnx.TensorProto.DataType.values()
    if info.type.HasField("tensor_type") and (
        not known or not all(-1 <= s < 1 << 31 for s in sides)
    ):
        yield f"{info.name[:80]!r} has a type or shape that is none"


def _node_faults(node: onnx.NodeProto, version: int) -> Iterator[str]:
    for attribute in node.attribute:
        if not isinstance(attribute.name, str) or not attribute.name:
            yield f"{node.op_type} {node.name[:80]!r} has an attribute whose name is no text"
            return
        for tensor in (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors):
            yield from _tensor_faults(tensor)
        for body in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
            yield from _faults(body, version)
    if node.domain not in _OURS:
        return
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:  # an operator that rules decline by name
        return
    label = f"{node.op_type} {node.name[:80]!r}"
    if not schema.min_input <= len(node.input) <= schema.max_input:
        yield f"{label} has {len(node.input)} inputs"
    elif not schema.min_output <= len(node.output) <= schema.max_output:
        yield f"{label} has {len(node.output)} outputs"
    elif "" in node.input[: _needed(schema)] or not any(node.output):
        yield f"{label} lacks an input or output that it needs"
    else:
        yield from _attribute_faults(node, schema, label)


def _needed(schema: OpSchema) -> int:
    """Return how many inputs must have a name."""
    single = OpSchema.FormalParameterOption.Single
    return sum(one.option == single for one in schema.inputs)


def _attribute_faults(node: onnx.NodeProto, schema: OpSchema, label: str) -> Iterator[str]:
    given = {attribute.name: attribute for attribute in node.attribute}
    if len(given) != len(node.attribute):
        yield f"{label} has an attribute twice"
    for name, declared in schema.attributes.items():
        attribute = given.get(name)
        if attribute is None:
            if declared.required:
                yield f"{label} lacks its attribute {name}"
        elif attribute.type != _number_of(declared.type) or not _is_set(attribute):
            yield f"{label} has an attribute {name} of another type than it takes"


def _number_of(kind: Any) -> int:
    """Return the number of an attribute's type, whose enumeration onnx declares as none."""
    return int(kind)


def _is_set(attribute: AttributeProto) -> bool:
    """Whether the field is there that the type promises; lists may be empty, zeros left out."""
    field = {AttributeProto.GRAPH: "g", AttributeProto.TENSOR: "t"}.get(attribute.type)
    return field is None or attribute.HasField(field)
