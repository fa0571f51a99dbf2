"""TensorRT-RTX parses and builds every pluginless body on a machine without a GPU."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.core import Precision, Target
from maskrt.plugins import lower
from maskrt.runtime.build import build_engine
from maskrt.runtime.build.plan_text import read_plan
from maskrt.runtime.build.rtx import build_standard

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


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_roialign_is_one_kernel_that_reads_features_in_their_type(kind: str) -> None:
    boxes, features = _boxes(2, 20), [f.astype(kind) for f in _features(2)]
    inputs = _inputs(boxes, features)
    made = TensorProto.FLOAT16 if kind == "float16" else TensorProto.FLOAT
    model = one_node_model("MultilevelRoIAlign", inputs, {"y": made}, **ROI)
    result = helper.make_tensor_value_info("y", made, [2, 20, 5, 7, 7])
    model.graph.output[0].CopyFrom(result)
    built = build_standard(lower(model, "pluginless"), Target.parse("rtx-89"))
    plan = read_plan(built.plan)
    assert plan is not None
    assert plan.count()["other"] == sum(plan.count().values()) == 1
    needed = boxes.nbytes + sum(feature.nbytes for feature in features)
    needed += 2 * 20 * 5 * 49 * (2 if kind == "float16" else 4)
    assert needed <= plan.traffic()["frame"] <= 1.05 * needed + 2000  # and the levels' constants


def test_nms_of_known_labels_moves_a_byte_a_pair_of_one_label() -> None:
    inputs = {name: np.array(value) for name, value in _candidates(1, 600).items()}
    labels = np.repeat(np.arange(5, dtype=np.int32), 120)[None]
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **NMS)
    model.graph.initializer.append(numpy_helper.from_array(labels, "labels"))
    del model.graph.input[2]
    for output, shape in zip(
        model.graph.output, [(1, 40, 4), (1, 40), (1, 40), (1, 40), (1,)], strict=True
    ):
        kind = output.type.tensor_type.elem_type
        output.CopyFrom(helper.make_tensor_value_info(output.name, kind, shape))
    built = build_standard(lower(model, "pluginless"), Target.parse("rtx-89"))
    plan = read_plan(built.plan)
    assert plan is not None
    assert max(a.size_bytes for k in plan.kernels for a in k.outputs) == 5 * 120 * 120


def test_batched_nms() -> None:
    inputs = {name: np.array(value) for name, value in _candidates(2, 64).items()}
    model = one_node_model("BatchedNMS", inputs, OUTPUTS, **NMS)
    engine = build_engine(model, Target.parse("rtx-89"), Precision.FP32)
    assert engine.files["engine.trt"]
