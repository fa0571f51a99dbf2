"""Models of one operator with shapes stated, as the lowering for TensorRT 8 wants them."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from maskrt.plugins import lower

from .bodies import one_node_model
from .tensorrt8 import run_lowered
from .test_batched_nms import ATTRIBUTES as NMS
from .test_batched_nms import OUTPUTS
from .test_multilevel_roialign import ATTRIBUTES as ROI

__all__ = ["nms_model", "pool_model", "run_checked"]


def nms_model(
    inputs: dict[str, np.ndarray], *, constant: bool = False, **attributes: Any
) -> onnx.ModelProto:
    """Return a model of one BatchedNMS; `constant` labels are held by the graph."""
    merged = {**NMS, **attributes}
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **merged)
    batch, kept = len(inputs["scores"]), merged["max_outputs"]
    _state_outputs(model, [(batch, kept, 4), *[(batch, kept)] * 3, (batch,)])
    if constant:
        del model.graph.input[2]
        model.graph.initializer.append(numpy_helper.from_array(inputs["labels"], "labels"))
    return model


def pool_model(inputs: dict[str, np.ndarray], **attributes: Any) -> onnx.ModelProto:
    merged = {**ROI, **attributes}
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **merged)
    size = (merged["output_height"], merged["output_width"])
    _state_outputs(model, [(*inputs["boxes"].shape[:2], inputs["p0"].shape[1], *size)])
    return model


def _state_outputs(model: onnx.ModelProto, shapes: list[tuple[int, ...]]) -> None:
    stated = [
        helper.make_tensor_value_info(o.name, o.type.tensor_type.elem_type, shape)
        for o, shape in zip(model.graph.output, shapes, strict=True)
    ]
    del model.graph.output[:]
    model.graph.output.extend(stated)


def run_checked(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Lower, check and run a model."""
    lowered = lower(model, "builtin")
    onnx.checker.check_model(lowered, full_check=True)
    given_ = {i.name: inputs[i.name] for i in lowered.graph.input}
    return run_lowered(lowered, given_)
