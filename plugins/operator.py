"""What an operator is: its name, inputs, attributes and outputs, and the limits of each.

Every operator folder holds one `SCHEMA` of this kind, and every other body of the operator (torch
reference, ONNX function, pluginless form, kernel) reads it, so a limit is written once.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from ..core import UnsupportedModelError
from .launch import LaunchPlan, Tensor

__all__ = ["DOMAIN", "Attribute", "Operator", "Port", "Schema"]

DOMAIN = "maskrt"
OPSET = 19

AttributeValue = int | float | str | tuple[float, ...]


@dataclass(frozen=True)
class Port:
    """An input or output: its name, symbolic shape and ONNX element types.

    A port with `repeat=(least, most)` stands for that many consecutive inputs.
    """

    name: str
    shape: tuple[str | int, ...]
    types: tuple[int, ...]
    repeat: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Attribute:
    """An attribute: its name, its Python type, what it means, and the values it may take.

    One with a `default` may be left out of a node.
    """

    name: str
    kind: type
    meaning: str
    check: Callable[[Any], bool] = lambda value: True
    limits: str = ""
    default: AttributeValue | None = None


@dataclass(frozen=True)
class Schema:
    """The signature of one operator of the domain `maskrt`."""

    name: str
    version: int
    meaning: str
    inputs: tuple[Port, ...]
    attributes: tuple[Attribute, ...]
    outputs: tuple[Port, ...]

    def validate(self, attributes: Mapping[str, AttributeValue], inputs: int) -> None:
        """Raise `UnsupportedModelError` unless the attributes and the input count are legal."""
        known = {a.name for a in self.attributes}
        needed = {a.name for a in self.attributes if a.default is None}
        if not needed <= set(attributes) <= known:
            wrong = ", ".join(sorted((needed - set(attributes)) | (set(attributes) - known)))
            raise UnsupportedModelError(
                f"a {self.name} node must have exactly the attributes of its schema, and differs "
                f"in: {wrong}."
            )
        for attribute in self.attributes:
            if attribute.name in attributes:
                self._check(attribute, attributes[attribute.name])
        least = sum(p.repeat[0] for p in self.inputs)
        most = sum(p.repeat[1] for p in self.inputs)
        if not least <= inputs <= most:
            raise UnsupportedModelError(
                f"a {self.name} node has {inputs} inputs, and takes {least} to {most}."
            )

    def _check(self, attribute: Attribute, value: AttributeValue) -> None:
        if not isinstance(value, attribute.kind) or not attribute.check(value):
            raise UnsupportedModelError(
                f"attribute {attribute.name} of a {self.name} node is {value!r}, and must be "
                f"{attribute.limits or attribute.kind.__name__}."
            )

    def attributes_of(self, node: onnx.NodeProto) -> dict[str, AttributeValue]:
        """Return a node's attributes as Python values, defaults filled in, checked."""
        values = {a.name: _python_value(a) for a in node.attribute}
        self.validate(values, len(node.input))
        return self.filled(values)

    def filled(self, attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
        """Return `attributes` with the defaults of those that are left out."""
        defaults = {a.name: a.default for a in self.attributes if a.default is not None}
        return {**defaults, **attributes}


@dataclass(frozen=True)
class Operator:
    """An operator and the ONNX bodies that lowering chooses between.

    Attributes:
        schema: the signature.
        function: makes the body for ONNX Runtime from a node and its input shapes.
        pluginless: the same without RoiAlign, NonMaxSuppression and NonZero.
        launch: makes the launch plan of the CUDA kernels from attributes and input tensors.
        builtin: makes the body for TensorRT 8.5 and 8.6, out of what they import and their own
            plugins; None where it cannot be made of them.
    """

    schema: Schema
    function: Callable[["NodeView"], onnx.FunctionProto]
    pluginless: Callable[["NodeView"], onnx.FunctionProto]
    launch: Callable[[Mapping[str, Any], Sequence[Tensor]], LaunchPlan]
    builtin: Callable[["NodeView"], onnx.FunctionProto] | None = None

    @property
    def folder(self) -> str:
        """The operator's folder, which is also the name of its function in `reference.py`."""
        return self.launch.__module__.split(".")[-2]

    @property
    def reference(self) -> Callable[..., Any]:
        """The definition in PyTorch; importing it needs torch."""
        package = self.launch.__module__.rsplit(".", 1)[0]
        return getattr(importlib.import_module(f"{package}.reference"), self.folder)


@dataclass(frozen=True)
class NodeView:
    """A node as a body sees it: attributes by name, static shape and ONNX type of each input.

    `function` is the name that the body is to have. Inputs whose values the graph holds are in
    `constants`, by their place.
    """

    attributes: Mapping[str, Any]
    input_shapes: tuple[tuple[int, ...], ...]
    input_types: tuple[int, ...]
    function: str
    constants: Mapping[int, onnx.TensorProto] = field(default_factory=dict)


def _python_value(attribute: onnx.AttributeProto) -> AttributeValue:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return tuple(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else value
