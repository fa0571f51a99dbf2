"""TensorRT-RTX parses and builds every pluginless body on a machine without a GPU."""

import numpy as np
import pytest
from onnx import TensorProto

from maskrt.core import Precision, Target
from maskrt.runtime.build import build_engine

from .bodies import one_node_model
from .test_batched_nms import ATTRIBUTES as NMS
from .test_batched_nms import OUTPUTS, _candidates
from .test_multilevel_roialign import ATTRIBUTES as ROI
from .test_multilevel_roialign import _boxes, _features, _inputs

pytestmark = [pytest.mark.rtx, pytest.mark.torch]


@pytest.mark.parametrize(
    "change", [{"mode": "avg"}, {"mode": "max"}, {"sampling_ratio": 0}], ids=str
)
def test_multilevel_roialign(change: dict[str, object]) -> None:
    inputs = _inputs(_boxes(2, 20), _features(2))
    attributes = {**ROI, **change}
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": TensorProto.FLOAT}, **attributes)
    model.graph.output[0].type.tensor_type.shape.SetInParent()
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    for size in (2, 20, 5, 7, 7):
        model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = size
    engine = build_engine(model, Target.parse("rtx-89"), Precision.FP32)
    assert engine.files["engine.trt"]


def test_batched_nms() -> None:
    inputs = {name: np.array(value) for name, value in _candidates(2, 64).items()}
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **NMS)
    engine = build_engine(model, Target.parse("rtx-89"), Precision.FP32)
    assert engine.files["engine.trt"]
