#!/usr/bin/env bash
# Packages: onnx 1.23.2, onnxruntime 1.32.0.
#
# One would guess: a newer opset is at least as well supported. RoiAlign of opset 22 differs from
# opset 16's only by a further type (bfloat16), and ONNX Runtime says that it supports opset 22.
#
# Seen: with opset 21 the graph runs. With opset 22 the same graph passes ONNX's checker, runs in
# the reference evaluator, and ONNX Runtime's CPU provider has no implementation. MaxRoiPool is the
# same; RoIAlign's neighbours in a detector (Resize, NonMaxSuppression, TopK, Conv) run.
#
# Why it matters: an exporter's newest opset, or a version converter, makes a Mask R-CNN that loads
# nowhere on a CPU. Keep such graphs at opset 21 or lower.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --no-compile --disable-pip-version-check \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

INFO = helper.make_tensor_value_info
FEATURES = INFO("features", TensorProto.FLOAT, [1, 1, 8, 8])


def graph_of(operator: str, opset: int) -> onnx.ModelProto:
    inputs = {
        "RoiAlign": [
            FEATURES,
            INFO("rois", TensorProto.FLOAT, [1, 4]),
            INFO("i", TensorProto.INT64, [1]),
        ],
        "MaxRoiPool": [FEATURES, INFO("rois", TensorProto.FLOAT, [1, 5])],
        "MaxPool": [FEATURES],
    }[operator]
    attributes = {
        "RoiAlign": {"output_height": 2, "output_width": 2},
        "MaxRoiPool": {"pooled_shape": [2, 2]},
        "MaxPool": {"kernel_shape": [4, 4], "strides": [4, 4]},
    }[operator]
    node = helper.make_node(operator, [value.name for value in inputs], ["pooled"], **attributes)
    output = INFO("pooled", TensorProto.FLOAT, [1, 1, 2, 2])
    graph = helper.make_graph([node], "pool", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def loads(model: onnx.ModelProto) -> bool:
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented as error:
        print(f"  {error}")
        return False
    return True


seen = {}
for operator in ("RoiAlign", "MaxRoiPool", "MaxPool"):
    for opset in (21, 22):
        seen[operator, opset] = loads(graph_of(operator, opset))
        print(f"{operator} of opset {opset}: {'loads' if seen[operator, opset] else 'no kernel'}")

feed = {
    "features": np.ones((1, 1, 8, 8), np.float32),
    "rois": np.array([[1, 1, 6, 6]], np.float32),
    "i": np.array([0]),
}
print(
    "reference at opset 22:",
    ReferenceEvaluator(graph_of("RoiAlign", 22)).run(None, feed)[0].ravel(),
)
assert [key for key, loaded in seen.items() if not loaded] == [("RoiAlign", 22), ("MaxRoiPool", 22)]
PYTHON
