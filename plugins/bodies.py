"""Lowering: every `maskrt` node becomes standard ONNX operators, in the body that a backend takes.

A canonical model carries one local function per `maskrt` node, so ONNX Runtime runs it as it is.
`attach_functions` writes those; `lower` picks a body, puts it in the place of each node, and
returns a model of standard operators only ("function" or "pluginless"), or of those and plugins
that TensorRT 8.5 and 8.6 bring along ("builtin").
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

import onnx
import onnx.inliner
from onnx import helper

from ..core import UnsupportedModelError, UnsupportedTargetError
from ..core.operator_names import function_name, operator_of
from .batched_nms import OPERATOR as BATCHED_NMS
from .mask_iou import OPERATOR as MASK_IOU
from .matrix_nms import OPERATOR as MATRIX_NMS
from .multilevel_roialign import OPERATOR as MULTILEVEL_ROIALIGN
from .operator import DOMAIN, NodeView, Operator
from .paste_masks import OPERATOR as PASTE_MASKS
from .preprocess import OPERATOR as PREPROCESS
from .soft_nms import OPERATOR as SOFT_NMS

__all__ = ["OPERATORS", "Form", "attach_functions", "inline", "known_operator", "lower"]

Form = Literal["function", "pluginless", "builtin"]

OPERATORS: dict[str, Operator] = {
    operator.schema.name: operator
    for operator in (
        MULTILEVEL_ROIALIGN,
        BATCHED_NMS,
        SOFT_NMS,
        MASK_IOU,
        MATRIX_NMS,
        PASTE_MASKS,
        PREPROCESS,
    )
}


def attach_functions(model: onnx.ModelProto, form: Form = "function") -> onnx.ModelProto:
    """Return a copy of `model` in which each `maskrt` node has its local function.

    A body depends on attributes and static shapes, so each node has one of its own, and its
    `op_type` becomes that function's name: `BatchedNMS_2` for the graph's second `BatchedNMS`.

    Raises:
        UnsupportedModelError: an unknown `maskrt` operator, or attributes outside its schema.
        UnsupportedTargetError: a node that this form cannot express.
    """
    attached = onnx.ModelProto()
    attached.CopyFrom(model)
    kept = [f for f in attached.functions if f.domain != DOMAIN]
    del attached.functions[:]
    attached.functions.extend(kept)
    known, constants = _static_types(attached), _constants(attached)
    numbers: Counter[str] = Counter()
    for node in _maskrt_nodes(attached):
        operator = operator_of(node.op_type)
        numbers[operator] += 1
        node.op_type = function_name(operator, numbers[operator])
        node.overload = ""
        attached.functions.append(_body_of(node, known, constants, form))
    _import_domain(attached)
    return attached


def lower(model: onnx.ModelProto, form: Form) -> onnx.ModelProto:
    """Return `model` without `maskrt` nodes; see the module's text."""
    if not any(True for _ in _maskrt_nodes(model)):
        return model
    return inline(attach_functions(model, form))


def inline(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of `model` with the body of each local function in the place of its nodes.

    It has no functions and no domain `maskrt`, and computes the same to the bit: for programs that
    read no local functions.
    """
    inlined = onnx.inliner.inline_local_functions(model)
    kept = {o.domain: o for o in inlined.opset_import if o.domain != DOMAIN}
    for function in model.functions:  # the inliner leaves out domains of which it has no schema
        for opset in function.opset_import:
            kept.setdefault(opset.domain, opset)
    del inlined.opset_import[:]
    inlined.opset_import.extend(kept.values())
    return inlined


def known_operator(node: onnx.NodeProto) -> Operator:
    """Return the operator of a `maskrt` node.

    Raises:
        UnsupportedModelError: this version knows none of that name.
    """
    name = operator_of(node.op_type)
    if name not in OPERATORS:
        raise UnsupportedModelError(
            f"node {node.name!r} has the operator maskrt::{name}, which this version does not "
            f"know: it knows {', '.join(OPERATORS)}."
        )
    return OPERATORS[name]


def _body_of(
    node: onnx.NodeProto,
    known: dict[str, tuple[tuple[int, ...], int]],
    constants: dict[str, onnx.TensorProto],
    form: Form,
) -> onnx.FunctionProto:
    operator = known_operator(node)
    attributes = operator.schema.attributes_of(node)
    missing = [name for name in node.input if name not in known]
    if missing:
        raise UnsupportedModelError(
            f"input {missing[0]!r} of node {node.name!r} has no static shape: export the model "
            "with a fixed input size."
        )
    shapes, types = zip(*(known[name] for name in node.input), strict=True)
    held = {i: constants[name] for i, name in enumerate(node.input) if name in constants}
    view = NodeView(attributes, shapes, types, node.op_type, held)
    make: Callable[[NodeView], onnx.FunctionProto] | None = getattr(operator, form)
    if make is None:
        raise UnsupportedTargetError(
            f"{operator.schema.name} cannot be made of the plugins that TensorRT 8.5 and 8.6 bring "
            "along: choose a target with TensorRT 10 or later, or export without this operator."
        )
    return make(view)


def _maskrt_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return (node for node in model.graph.node if node.domain == DOMAIN)


def _static_types(model: onnx.ModelProto) -> dict[str, tuple[tuple[int, ...], int]]:
    """Return shape and element type of every tensor whose shape the graph states in full."""
    graph = model.graph
    known = {t.name: (tuple(t.dims), t.data_type) for t in graph.initializer}
    for info in (*graph.input, *graph.output, *graph.value_info):
        kind = info.type.tensor_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            known[info.name] = (tuple(d.dim_value for d in kind.shape.dim), kind.elem_type)
    return known


def _constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return the initializers that no caller can replace."""
    replaceable = {i.name for i in model.graph.input}
    return {t.name: t for t in model.graph.initializer if t.name not in replaceable}


def _import_domain(model: onnx.ModelProto) -> None:
    if all(o.domain != DOMAIN for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
