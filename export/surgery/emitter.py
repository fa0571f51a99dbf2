"""Writing a canonical graph: one call a node, constants shared, static types at the end.

graph = Emitter()
total = graph.op("Add", "x", graph.constant(1.0))
"""

import hashlib
from typing import Any

import numpy as np
import onnx
from onnx import TypeProto, helper, numpy_helper

from ...core import UnsupportedModelError
from ...plugins import DOMAIN, attach_functions
from ...plugins.operator import OPSET
from ..passes import fold_affine_into_conv, name_nodes, strip_metadata
from .fold import fold
from .graph import Graph

__all__ = ["Emitter"]

_IR_VERSION = 10


class Emitter:
    """Collects nodes and initializers; names are made here and depend on nothing foreign."""

    def __init__(self) -> None:
        """Start empty."""
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, np.ndarray] = {}
        self._known: dict[bytes, str] = {}
        self._names: dict[str, int] = {}
        self._types: dict[str, TypeProto] = {}

    def op(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node; return its output, or a list of them if `outputs` > 1."""
        names = [self._fresh(op_type.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def named(self, output: str, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Append a node whose output has the given name."""
        self.nodes.append(helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def maskrt(
        self,
        op_type: str,
        inputs: list[str],
        outputs: list[tuple[str, int, tuple[int, ...]]],
        attributes: dict[str, Any],
    ) -> list[str]:
        """Append a node of the domain `maskrt`.

        Args:
            op_type: of `plugins.OPERATORS`.
            inputs: names.
            outputs: name (or "" for a fresh one), element type and shape of each.
            attributes: all of the schema's.
        """
        names = [name or self._fresh(op_type.lower()) for name, _, _ in outputs]
        for name, (_, kind, shape) in zip(names, outputs, strict=True):
            self._types[name] = helper.make_tensor_type_proto(kind, shape)
        self.nodes.append(helper.make_node(op_type, inputs, names, domain=DOMAIN, **attributes))
        return names

    def constant(self, value: Any, dtype: Any = np.float32, name: str = "constant") -> str:
        """Return the name of an initializer; equal ones are one."""
        array = np.ascontiguousarray(value, dtype=dtype).reshape(np.shape(value))
        digest = hashlib.sha1(array.reshape(-1).view(np.uint8), usedforsecurity=False).digest()
        key = digest + f"{array.dtype}{array.shape}".encode()
        if key not in self._known:
            self._known[key] = self._fresh(name)
            self._constants[self._known[key]] = array
        return self._known[key]

    def ints(self, *values: int) -> str:
        """Return an int64 vector, as shapes and axes are given."""
        return self.constant(np.array(values, np.int64), np.int64)

    def slice_last(self, data: str, start: int, stop: int) -> str:
        """Return `data[..., start:stop]`."""
        return self.op("Slice", data, self.ints(start), self.ints(stop), self.ints(-1))

    def finish(
        self, inputs: list[onnx.ValueInfoProto], outputs: list[tuple[str, str, int]]
    ) -> onnx.ModelProto:
        """Return the canonical model.

        Args:
            inputs: the graph's.
            outputs: what each is called, which tensor it is, and its element type.

        Raises:
            UnsupportedModelError: a shape is not static.
        """
        infos = [onnx.ValueInfoProto(name=tensor) for _, tensor, _ in outputs]
        graph = helper.make_graph(self.nodes, "canonical", inputs, infos)
        raw = helper.make_model(graph, opset_imports=_opsets())
        folded = fold(raw, self._types, self._constants, may_grow=False)
        return _serialised(folded, inputs, outputs)

    def _fresh(self, hint: str) -> str:
        self._names[hint] = self._names.get(hint, 0) + 1
        stem, dot, rest = hint.partition(".weight")
        return f"{hint}_{self._names[hint]}" if not dot else f"{stem}{self._names[hint]}{dot}{rest}"


def _serialised(
    folded: Graph, inputs: list[onnx.ValueInfoProto], outputs: list[tuple[str, str, int]]
) -> onnx.ModelProto:
    called = {name: wanted for name, (wanted, _, _) in zip(folded.outputs, outputs, strict=True)}
    protos, infos = [], []
    for node in folded.nodes:
        domain, _, op_type = node.op.rpartition("::")
        made = [called.get(n, n) for n in node.outputs]
        read = [called.get(n, n) for n in node.inputs]
        protos.append(helper.make_node(op_type, read, made, domain=domain, **node.attributes))
        for name in node.outputs:
            if name in folded.types and name not in called:
                infos.append(_info(folded, name, name))
    results = [_info(folded, name, called[name]) for name in folded.outputs]
    graph = helper.make_graph(protos, "canonical", inputs, results, value_info=infos)
    model = helper.make_model(
        graph, opset_imports=_opsets(), producer_name="maskrt", ir_version=_IR_VERSION
    )
    for name, value in folded.constants.items():  # last, as every copy of the graph copies them
        model.graph.initializer.add().CopyFrom(numpy_helper.from_array(value, name))
    fold_affine_into_conv(model)
    name_nodes(model)
    strip_metadata(model)
    attached = attach_functions(model)
    onnx.checker.check_model(attached)
    return attached


def _opsets() -> list[onnx.OperatorSetIdProto]:
    return [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]


def _info(folded: Graph, name: str, called: str) -> onnx.ValueInfoProto:
    kind, shape = folded.types[name]
    if shape is None or None in shape:
        maker = folded.maker(name)
        raise UnsupportedModelError(
            f"the shape of the output of {maker.op if maker else name} depends on the picture "
            "after surgery, and a canonical graph has static shapes: export the model with a fixed "
            "input size."
        )
    return helper.make_tensor_value_info(called, kind, shape)
