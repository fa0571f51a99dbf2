"""A file as its own exporter wrote it, taking its picture in another type or layout.

As people's wrappers do it: channels last behind a Transpose (tf2onnx, PyTorch models with a permute
in front), uint8 behind Cast and Div (a `x.float() / 255` in front), a Cast alone, doubles.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["as_double", "taking"]


def taking(
    model: onnx.ModelProto, kind: int, *, last: bool = False, divided: Sequence[float] = ()
) -> onnx.ModelProto:
    """Return `model` with another input, `shown`.

    Args:
        model: takes float pictures, channels first.
        kind: the type of the numbers that it takes then.
        last: channels last.
        divided: by each of these, in this order, before the model's own first node.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    (info,) = made.graph.input
    own, sides = info.name, [d.dim_value for d in info.type.tensor_type.shape.dim]
    made.graph.input.remove(info)
    steps: list[onnx.NodeProto] = []

    def step(op: str, *more: str, **attributes: object) -> None:
        before = steps[-1].output[0] if steps else "shown"
        steps.append(helper.make_node(op, [before, *more], [f"shown_{len(steps)}"], **attributes))

    if kind != TensorProto.FLOAT:
        step("Cast", to=TensorProto.FLOAT)
    if last:
        batch = list(range(len(sides) - 3))
        step("Transpose", perm=[*batch, *(len(batch) + axis for axis in (2, 0, 1))])
        sides = [*sides[:-3], sides[-2], sides[-1], sides[-3]]
    for number in divided:
        name = f"by_{len(steps)}"
        made.graph.initializer.append(numpy_helper.from_array(np.float32(number), name))
        step("Div", name)
    steps[-1].output[0] = own
    for node in reversed(steps):
        made.graph.node.insert(0, node)
    made.graph.input.append(helper.make_tensor_value_info("shown", kind, sides))
    return made


def as_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` as a PyTorch model has it that was cast by `.double()`."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for tensor in made.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            wide = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for info in (*made.graph.input, *made.graph.output):
        info.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in made.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    return made
