"""Folding: one walk through the graph that computes all that does not depend on the picture.

Each node is looked at once, in order. If all it reads is known, it is computed; `Shape` and `Size`
are known as soon as the shape is; an `If` whose condition is known is replaced by its branch; what
only passes its input on disappears. The types of the rest are inferred by ONNX's own rules, which
are given the known values, so a `Reshape` to a computed shape is static, too.

What is left has no shape arithmetic, no dead branches, and nothing that no output needs.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TypeProto, helper, numpy_helper
from onnx.defs import OpSchema

from ...core import InputError
from .branches import rename_all, rename_outer, suppressing_branch
from .evaluation import constant_of, evaluated, proto_of
from .forms import Known, one_form
from .graph import Graph, Node, Shape, outer_names
from .growth import grown, has_grown
from .node_order import in_order
from .partial_shapes import PartialShapes
from .plugin_shapes import output_types

__all__ = ["fold"]

_ALL = (1 << 31) - 1  # an end that no shape reaches
_KNOWN_DATA = 1 << 10  # values of up to so many elements are told to the type inference


def fold(
    model: onnx.ModelProto,
    types: Mapping[str, TypeProto] | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    may_grow: bool = True,
) -> Graph:
    """Return the graph of `model` with all that is known computed; see the module's text.

    Args:
        model: any; it is not changed.
        types: of the outputs of nodes that ONNX has no rules for.
        constants: besides the model's initializers.
        may_grow: compute what is larger than what it is computed from, too (`growth.py`).

    Raises:
        InputError: a node reads what nothing makes.
    """
    folder = _Folder(model, dict(types or {}), may_grow)
    graph = model.graph
    for tensor in graph.initializer:
        folder.know(tensor.name, numpy_helper.to_array(tensor))
    for name, value in (constants or {}).items():
        folder.know(name, value)
    held = {tensor.name for tensor in graph.initializer}
    inputs = [i for i in graph.input if i.name not in held]
    for info in inputs:
        folder.declare(info)
    folder.walk(in_order(graph.node, folder.made))
    outputs = tuple(folder.resolve(o.name) for o in graph.output)
    nodes = _needed(folder.nodes, outputs)
    used = {name for node in nodes for name in (*node.inputs, *outer_names(node))} | {*outputs}
    chains = {name: grown(name, folder.computed, folder.constants.get) for name in used}
    kept = {name: chain for name, chain in chains.items() if chain}
    used |= {name for chain in kept.values() for node in chain for name in node.inputs}
    return Graph(
        nodes,
        tuple(i.name for i in inputs),
        outputs,
        {name: value for name, value in folder.constants.items() if name in used},
        {name: _plain(kind) for name, kind in folder.types.items() if name in used},
        folder.opset,
        kept,
    )


class _Folder:
    def __init__(self, model: onnx.ModelProto, given: dict[str, TypeProto], may_grow: bool) -> None:
        self._given = given
        self._may_grow = may_grow
        self.computed: dict[str, Node] = {}
        self.opsets = {o.domain: o.version for o in model.opset_import}
        self.opset = self.opsets.get("", 1)
        self.imports = list(model.opset_import)
        self.ir_version = model.ir_version
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.types: dict[str, TypeProto] = {}
        self._renamed: dict[str, str] = {}
        self._branches = 0
        self.made: set[str] = set()
        self._makers: dict[str, Node] = {}
        self._fresh = 0
        self._partial = PartialShapes(self.constants.get, self._shape)
        self._known = Known(
            self._makers.get, self.constants.get, self._shape, self._constant, self._name,
            self.opset,
        )  # fmt: skip

    def resolve(self, name: str) -> str:
        while name in self._renamed:
            name = self._renamed[name]
        return name

    def declare(self, info: onnx.ValueInfoProto) -> None:
        """Take in an input of the graph."""
        self.types[info.name] = info.type
        self.made.add(info.name)

    def know(self, name: str, value: np.ndarray) -> None:
        self.made.add(name)
        self.constants[name] = value
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        self.types[name] = helper.make_tensor_type_proto(kind, value.shape)

    def walk(self, nodes: Iterable[onnx.NodeProto]) -> None:
        for proto in nodes:
            for name in proto.input:
                if name and name not in self.made:
                    raise InputError(
                        f"the graph is damaged: {proto.op_type} {proto.name!r} reads {name!r}, "
                        "which nothing before it makes; export the model again."
                    )
            self._visit(proto)
            self.made.update(proto.output)

    def _name(self) -> str:
        self._fresh += 1
        return f"form{self._fresh}"

    def _constant(self, value: np.ndarray) -> str:
        name = self._name()
        self.know(name, value)
        return name

    def _shape(self, name: str) -> Shape | None:
        return _plain(self.types[name])[1] if name in self.types else None

    def _visit(self, proto: onnx.NodeProto) -> None:
        node = self._translate(proto)
        forms = one_form(node, self._known)
        for form in [node] if forms is None else forms:
            inputs = tuple(self.resolve(name) for name in form.inputs)
            self._take(replace(form, inputs=inputs))
            self.made.update(form.outputs)

    def _take(self, node: Node) -> None:
        if node.op == "Constant":
            self.know(node.output, constant_of(node))
            return
        passed = self._passes_on(node)
        if passed is not None:
            self._renamed[node.output] = passed
            return
        if node.op == "If" and node.inputs[0] in self.constants:
            self._take_branch(node, bool(self.constants[node.inputs[0]].reshape(-1)[0]))
            return
        if node.op == "If" and (taken := suppressing_branch(node)) is not None:
            self._take_branch(node, taken)
            return
        values = self._compute(node)
        if values is not None:
            for name, value in zip(node.outputs, values, strict=False):
                if name:
                    self.know(name, value)
            return
        self._infer(node)
        if (known := self._infer_partly(node)) is not None:
            self.know(node.output, known)
            return
        self.nodes.append(node)
        self._makers.update(dict.fromkeys(node.outputs, node))

    def _translate(self, proto: onnx.NodeProto) -> Node:
        domain = "" if proto.domain in ("", "ai.onnx") else f"{proto.domain}::"
        attributes = {a.name: _attribute_of(a) for a in proto.attribute}
        for name, value in attributes.items():
            if isinstance(value, onnx.GraphProto):
                attributes[name] = self._with_resolved(value)
        return Node(
            domain + proto.op_type,
            tuple(self.resolve(name) for name in proto.input),
            tuple(proto.output),
            attributes,
            proto.name,
        )

    def _with_resolved(self, body: onnx.GraphProto) -> onnx.GraphProto:
        """Return `body` with the names that it takes from outside as they are called now."""
        copied = onnx.GraphProto()
        copied.CopyFrom(body)
        rename_outer(copied, self.resolve)
        return copied

    def _passes_on(self, node: Node) -> str | None:
        """Return the input that `node` hands on unchanged, if that is all it does."""
        if node.op == "Identity" or (node.op == "Dropout" and not self._training(node)):
            return node.inputs[0]
        if node.op == "Slice" and self._takes_all(node):
            return node.inputs[0]
        if node.op == "Split" and len(node.outputs) == 1:
            return node.inputs[0]
        kind = self.types.get(node.inputs[0]) if node.inputs else None
        if kind is None or not kind.HasField("tensor_type"):
            return None
        elem, shape = _plain(kind)
        if node.op == "Cast":
            return node.inputs[0] if node.attributes["to"] == elem else None
        if node.op == "Concat" and len(node.inputs) == 1:
            return node.inputs[0]
        if node.op in ("Reshape", "Expand", "Flatten") and shape is not None and None not in shape:
            self._infer(node)
            same = (
                _plain(self.types[node.output])[1] == shape if node.output in self.types else False
            )
            return node.inputs[0] if same else None
        if node.op == "Slice" and shape is not None and None not in shape:
            return node.inputs[0] if self._keeps_all(node, shape) else None
        if node.op == "Pad" and len(node.inputs) > 1:
            pads = self.constants.get(node.inputs[1])
            return node.inputs[0] if pads is not None and not pads.any() else None
        return None

    def _training(self, node: Node) -> bool:
        if len(node.inputs) < 3 or not node.inputs[2]:
            return False
        value = self.constants.get(node.inputs[2])
        return value is None or bool(value)

    def _takes_all(self, node: Node) -> bool:
        """Whether `node` is `data[0:]`, whatever the shape."""
        parts = [self.constants.get(name) for name in (*node.inputs[1:3], *node.inputs[4:5])]
        if len(parts) < 2 or any(part is None for part in parts):
            return False
        start, end, *step = (part for part in parts if part is not None)
        plain = not step or bool((step[0] == 1).all())
        return plain and bool((start == 0).all() and (end >= _ALL).all())

    def _keeps_all(self, node: Node, shape: Shape) -> bool:
        steps = node.inputs[4] if len(node.inputs) > 4 else ""
        if steps and (steps not in self.constants or (self.constants[steps] != 1).any()):
            return False
        self._infer(node)
        return node.output in self.types and _plain(self.types[node.output])[1] == shape

    def _take_branch(self, node: Node, taken: bool) -> None:
        body: onnx.GraphProto = node.attributes["then_branch" if taken else "else_branch"]
        self._branches += 1
        prefix = f"branch{self._branches}/"
        own = {t.name for t in body.initializer}
        for inner in body.node:
            own.update(inner.output)
        renamed = onnx.GraphProto()
        renamed.CopyFrom(body)
        rename_all(renamed, {name: prefix + name for name in own if name})
        for tensor in renamed.initializer:
            self.know(tensor.name, numpy_helper.to_array(tensor))
        self.walk(renamed.node)
        for outer, inner_output in zip(node.outputs, renamed.output, strict=True):
            if outer:
                self._renamed[outer] = self.resolve(inner_output.name)

    def _compute(self, node: Node) -> list[np.ndarray] | None:
        if node.op in ("Shape", "Size"):
            return self._shape_value(node)
        if any(name and name not in self.constants for name in node.inputs):
            return None
        feeds = {n: self.constants[n] for n in node.inputs if n}
        found = evaluated(node, feeds, self.imports)
        if found is None:
            return None
        stored, sources = (sum(v.nbytes for v in values) for values in (found, feeds.values()))
        if not self._may_grow and has_grown(stored, sources):
            return None
        self.computed.update(dict.fromkeys(node.outputs, node))
        return found

    def _shape_value(self, node: Node) -> list[np.ndarray] | None:
        kind = self.types.get(node.inputs[0])
        shape = None if kind is None else _plain(kind)[1]
        if shape is None or None in shape:
            return None
        if node.op == "Size":
            return [np.array(math.prod(side or 0 for side in shape), np.int64)]
        start, end = node.attributes.get("start", 0), node.attributes.get("end")
        return [np.array(shape[start:end], np.int64)]

    def _infer(self, node: Node) -> None:
        """Note the types of the outputs of `node`, as far as ONNX's own inference tells them."""
        domain, _, op_type = node.op.rpartition("::")
        version = self.opsets.get(domain)
        if node.output in self._given:
            self.types.update({n: self._given[n] for n in node.outputs if n in self._given})
            return
        if (plugin := output_types(node, self._shape)) is not None:
            self.types.update(plugin)
            return
        if version is None or any(n and n not in self.types for n in node.inputs):
            return
        try:
            schema: OpSchema = onnx.defs.get_schema(op_type, version, domain)
            known = {n: self.types[n] for n in node.inputs if n in self.types}
            data = {
                n: numpy_helper.from_array(self.constants[n], n)
                for n in node.inputs
                if n in self.constants and self.constants[n].size <= _KNOWN_DATA
            }
            found = onnx.shape_inference.infer_node_outputs(
                schema, proto_of(node), known, data,
                opset_imports=self.imports, ir_version=self.ir_version,
            )  # fmt: skip
        except (
            onnx.defs.SchemaError, onnx.shape_inference.InferenceError,
            onnx.checker.ValidationError, RuntimeError,
        ):  # fmt: skip
            return
        self.types.update(found)

    def _infer_partly(self, node: Node) -> np.ndarray | None:
        """Note the sides that ONNX's inference leaves out; return the output if all it is known."""
        sides = self._partial.sides(node)
        for name in node.outputs if sides is not None else ():
            self._narrow(name, sides or ())
        numbers = self._partial.follow(node)
        if numbers is None or None in numbers:
            return None
        elem, shape = _plain(self.types[node.output])
        dtype = helper.tensor_dtype_to_np_dtype(elem)
        return np.array(numbers, dtype).reshape([side or 0 for side in shape or ()])

    def _narrow(self, name: str, sides: Iterable[int | None]) -> None:
        if name not in self.types:
            return
        elem, shape = _plain(self.types[name])
        wanted = list(sides)
        if shape is not None and len(shape) == len(wanted):
            wanted = [w if s is None else s for s, w in zip(shape, wanted, strict=True)]
        self.types[name] = helper.make_tensor_type_proto(elem, wanted)


def _plain(kind: TypeProto) -> tuple[int, Shape | None]:
    tensor = kind.tensor_type
    if not kind.HasField("tensor_type") or not tensor.HasField("shape"):
        return tensor.elem_type, None
    dims = tensor.shape.dim
    return tensor.elem_type, tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)


def _attribute_of(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _needed(nodes: list[Node], outputs: Iterable[str]) -> list[Node]:
    """Return the nodes that some output needs."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
            wanted.update(outer_names(node))
    return kept[::-1]
