"""The graph that TensorRT parses when its plugins run the operators: plugin nodes in their place.

`lower_to_plugins` keeps each node of the domain `maskrt` and writes out what the parser looks for:
all attributes as numbers (`field_numbers.py`), the plugin's version and namespace. `lower_to_aot`
puts one node for each kernel in its place, since an ahead-of-time plugin is one kernel. Scratch
tensors become tensors of the graph, from the kernel that writes them to those that read them:

    BatchedNMS(boxes, scores, labels)
    -> BatchedNMS_nms_rank_1to2of3(scores)
       BatchedNMS_nms_overlap_4to1of3(boxes, labels, order, valid)
       BatchedNMS_nms_select_6to5of3(boxes, …, order, valid, bits)

Beside the operator's attributes, such a node says which launch plan it is part of: `plan_dims_0`,
…, the sizes of the operator's inputs one after another (-1: known to TensorRT alone),
`plan_types_0`, …, their ONNX element types, `plan_stage`, the kernel's place in the plan, and
`plan_sm`, the compute capability to compile for (0: of the device that builds).

A node's namespace is its domain from TensorRT 10.10 on, and before that what the attribute
`plugin_namespace` says. Local functions of the domain are dropped: the parser would inline them.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx
from onnx import helper

from ...core import UnsupportedModelError
from ..bodies import known_operator
from ..launch import LaunchPlan, Stage
from ..operator import DOMAIN, AttributeValue, Operator
from .field_numbers import attributes_of_numbers, numbers_of, values_at
from .plan_inputs import input_tensors, ports_of_inputs

__all__ = ["Position", "fields_in", "lower_to_aot", "lower_to_plugins", "plugin_name", "split"]

_POSITION = ("plan_dims", "plan_types", "plan_stage", "plan_sm")
_PARSERS = ("plugin_version", "plugin_namespace", "aot")  # read by TensorRT's parser, no fields

Known = Mapping[str, tuple[tuple[int, ...], int]]


def lower_to_plugins(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of `model` whose `maskrt` nodes are plugins of `tensorrt_v3`.

    Raises:
        UnsupportedModelError: an unknown `maskrt` operator, or attributes outside its schema.
    """
    lowered = _without_functions(model)
    for node in lowered.graph.node:
        if node.domain == DOMAIN:
            operator = known_operator(node)
            attributes = operator.schema.attributes_of(node)
            del node.attribute[:]
            node.op_type, node.overload = operator.schema.name, ""
            version = str(operator.schema.version)
            _write(node, {**attributes, "plugin_version": version, "plugin_namespace": DOMAIN})
    return lowered


def lower_to_aot(model: onnx.ModelProto, sm: int = 0) -> onnx.ModelProto:
    """Return a copy of `model` whose `maskrt` nodes are chains of plugins of `tensorrt_aot`.

    Args:
        model: with the rank and type of every input of a `maskrt` node.
        sm: compute capability to compile for, such as 87; 0 for that of the device that builds.

    Raises:
        UnsupportedModelError: an unknown `maskrt` operator, attributes outside its schema, or an
            input whose shape the graph does not state, or whose type the operator does not take.
        UnsupportedTargetError: sizes that a kernel does not take, or must know and does not.
    """
    lowered = _without_functions(model)
    known = _known(lowered.graph)
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(lowered.graph.node):
        nodes += _chain(node, known, index, sm) if node.domain == DOMAIN else [node]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del lowered.graph.node[:]
    lowered.graph.node.extend(copies)
    return lowered


def plugin_name(operator: Operator, stage: Stage, inputs: int) -> str:
    """Return the name of the plugin of one kernel; another number of tensors is another plugin.

    Args:
        operator: that the kernel is of.
        stage: the kernel.
        inputs: how many the operator's node has.
    """
    count = f"{len(stage.inputs)}to{len(stage.outputs)}of{inputs}"
    return f"{operator.schema.name}_{stage.entry}_{count}"


@dataclass(frozen=True)
class Position:
    """Where a kernel's node stands: the launch plan that it is part of, and its place there.

    Attributes:
        dims: sizes of the operator's inputs, one after another; -1 where TensorRT alone knows.
        types: ONNX element types of the operator's inputs.
        stage: the kernel's place in the plan.
        sm: compute capability to compile for; 0 for that of the device that builds.
    """

    dims: tuple[int, ...]
    types: tuple[int, ...]
    stage: int
    sm: int

    @property
    def attributes(self) -> dict[str, Any]:
        """The node's attributes that state it."""
        return {name: getattr(self, name.removeprefix("plan_")) for name in _POSITION}

    def plan(self, operator: Operator, attributes: Mapping[str, AttributeValue]) -> LaunchPlan:
        """Return the launch plan."""
        rest, shapes = list(self.dims), []
        for _, symbols in ports_of_inputs(operator.schema, len(self.types)):
            shapes.append(rest[: len(symbols)])
            del rest[: len(symbols)]
        dtypes = [str(helper.tensor_dtype_to_np_dtype(kind)) for kind in self.types]
        return operator.launch(attributes, input_tensors(operator.schema, shapes, dtypes))


def fields_in(node: onnx.NodeProto) -> tuple[str, ...]:
    """Return the names of the plugin fields that TensorRT's parser makes of a lowered node."""
    return tuple(a.name for a in node.attribute if a.name not in _PARSERS)


def split(
    operator: Operator, numbers: Mapping[str, int | float]
) -> tuple[Position, dict[str, AttributeValue]]:
    """Return what the fields of a kernel's node say: its place, and the operator's attributes.

    Raises:
        UnsupportedModelError: an attribute is missing, unknown or outside the schema's limits.
    """
    dims, types = (values_at(name, numbers) for name in _POSITION[:2])
    position = Position(dims, types, *(int(numbers[name]) for name in _POSITION[2:]))
    own = {n: v for n, v in numbers.items() if n not in numbers_of(position.attributes)}
    values = attributes_of_numbers(operator.schema, own)
    operator.schema.validate(values, len(types))
    return position, values


def _chain(node: onnx.NodeProto, known: Known, index: int, sm: int) -> Iterator[onnx.NodeProto]:
    """Yield a node for each kernel of an operator's node."""
    operator = known_operator(node)
    attributes = operator.schema.attributes_of(node)
    missing = [name for name in node.input if name not in known]
    if missing:
        raise UnsupportedModelError(
            f"input {missing[0]!r} of node {node.name!r} has no shape in the graph: run "
            "onnx.shape_inference, or export the model with a fixed input size."
        )
    shapes, types = zip(*(known[name] for name in node.input), strict=True)
    _require_types(operator, node, types)
    first = Position(tuple(itertools.chain.from_iterable(shapes)), types, 0, sm)
    plan = first.plan(operator, attributes)
    names = _tensor_names(plan, node, index)
    for place, stage in enumerate(plan.stages):
        made = helper.make_node(
            plugin_name(operator, stage, len(types)), [names[n] for n in stage.inputs],
            [names[n] for n in stage.outputs], name=f"{node.name}/{stage.entry}", domain=DOMAIN,
        )  # fmt: skip
        position = replace(first, stage=place).attributes
        _write(made, {**attributes, **position, "plugin_version": "1",
                      "plugin_namespace": DOMAIN, "aot": 1})  # fmt: skip
        yield made


def _require_types(operator: Operator, node: onnx.NodeProto, types: Sequence[int]) -> None:
    ports = ports_of_inputs(operator.schema, len(types))
    for name, kind, (port, _) in zip(node.input, types, ports, strict=True):
        if kind not in port.types:
            allowed = ", ".join(onnx.TensorProto.DataType.Name(t) for t in port.types)
            raise UnsupportedModelError(
                f"input {name!r} of node {node.name!r} is {onnx.TensorProto.DataType.Name(kind)}, "
                f"and {operator.schema.name} takes {allowed}: cast it before the node."
            )


def _tensor_names(plan: LaunchPlan, node: onnx.NodeProto, index: int) -> dict[str, str]:
    """Return the graph's name of each tensor of a plan; outputs that nobody reads get one too."""
    names = {name: f"{DOMAIN}_{index}_{name}" for name in plan.tensors}
    names |= dict(zip(plan.inputs, node.input, strict=True))
    return names | {
        ours: name for ours, name in zip(plan.outputs, node.output, strict=False) if name
    }


def _write(node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
    said = {name: attributes[name] for name in _PARSERS if name in attributes}
    own = {name: value for name, value in attributes.items() if name not in said}
    for name, value in {**numbers_of(own), **said}.items():
        node.attribute.append(helper.make_attribute(name, value))


def _without_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    kept = [function for function in copied.functions if function.domain != DOMAIN]
    del copied.functions[:]
    copied.functions.extend(kept)
    return copied


def _known(graph: onnx.GraphProto) -> Known:
    """Return shape (-1 where it is not a number) and element type of every tensor of known rank."""
    known = {t.name: (tuple(t.dims), t.data_type) for t in graph.initializer}
    for info in (*graph.input, *graph.output, *graph.value_info):
        kind = info.type.tensor_type
        if kind.HasField("shape") and kind.elem_type:
            dims = (d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
            known[info.name] = (tuple(dims), kind.elem_type)
    return known
