"""Runs every ONNX body of an operator: as a local function and inlined, in both forms."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from maskrt.plugins import attach_functions, lower
from maskrt.plugins.operator import OPSET

FORMS = ("function", "pluginless")
_TYPES = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int8": TensorProto.INT8,
}


NMS_OUTPUTS = {  # boxes, scores, labels, indices and how many
    "b": TensorProto.FLOAT, "s": TensorProto.FLOAT, "l": TensorProto.INT32,
    "i": TensorProto.INT32, "n": TensorProto.INT32,
}  # fmt: skip


def one_node_model(
    op_type: str, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, int], **attributes: Any
) -> onnx.ModelProto:
    """Return a model of one `maskrt` node."""
    node = helper.make_node(op_type, list(inputs), list(outputs), domain="maskrt", **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(name, _TYPES[str(value.dtype)], value.shape)
            for name, value in inputs.items()
        ],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("maskrt", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Run a model in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(inputs))


def every_body(
    model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield the outputs of each form, as a local function and inlined."""
    for form in FORMS:
        yield f"{form} attached", run(attach_functions(model, form), inputs)
        lowered = lower(model, form)
        assert not any(node.domain == "maskrt" for node in lowered.graph.node)
        yield f"{form} inlined", run(lowered, inputs)
