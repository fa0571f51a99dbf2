"""A small builder for ONNX function bodies: one call a node, fresh names, shared constants.

    body = Body()
    total = body.op("Add", "x", body.constant(1.0))

Names inside a function are local to it, so they only need to be unique within one body.
"""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .operator import DOMAIN, OPSET

__all__ = ["Body"]


class Body:
    """Collects the nodes of one function, graph or loop body.

    Args:
        prefix: start of every name made here; a loop body needs one that differs from the
            surrounding body's, since it sees the outer names.
    """

    def __init__(self, prefix: str = "") -> None:
        """Start with no nodes."""
        self.nodes: list[onnx.NodeProto] = []
        self._prefix = prefix
        self._count = 0
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], str] = {}

    def op(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node, and return its output name, or a list of them if `outputs` > 1."""
        names = [self._fresh(op_type) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def named(self, output: str, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Append a node whose output has the given name, such as an output of the function."""
        self.nodes.append(helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Return the name of a constant; equal ones are shared."""
        array = np.ascontiguousarray(value, dtype=dtype).reshape(np.shape(value))
        key = (str(array.dtype), array.tobytes(), array.shape)
        if key not in self._constants:
            self._constants[key] = self.op("Constant", value=numpy_helper.from_array(array))
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """Return an int64 vector constant, as shapes and axes are given."""
        return self.constant(np.array(values, np.int64), np.int64)

    def slice_last(self, data: str, start: int, stop: int) -> str:
        """Return `data[..., start:stop]`."""
        return self.op("Slice", data, self.ints(start), self.ints(stop), self.ints(-1))

    def to_function(self, name: str, inputs: list[str], outputs: list[str]) -> onnx.FunctionProto:
        """Return the nodes as a local function of the domain `maskrt`."""
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_function(DOMAIN, name, inputs, outputs, self.nodes, opset)

    def _fresh(self, hint: str) -> str:
        self._count += 1
        return f"{self._prefix}{hint}_{self._count}"
