#!/usr/bin/env bash
# Packages: openvino 2026.4.0; onnx 1.23.2 (file and reference), onnxruntime 1.32.0.
#
# One would guess: NonMaxSuppression of one ONNX file suppresses the same boxes everywhere. ONNX
# suppresses a box whose IoU is *greater* than the threshold.
#
# Seen: at an IoU of exactly the threshold (0.5, exact in binary) ONNX Runtime and ONNX's reference
# keep the box, and OpenVINO drops it. A little below and above all agree.
#
# Why it matters: an IoU exactly at the threshold isn't rare where boxes are small, whole pixels or
# cells of a grid, or quantised. AP then differs between runtimes for no reason that a comparison of
# the networks' outputs would show.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --no-compile --disable-pip-version-check \
    openvino==2026.4.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

info = helper.make_tensor_value_info
graph = helper.make_graph(
    [helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou"], ["kept"])],
    "nms",
    [info("boxes", TensorProto.FLOAT, [1, 2, 4]), info("scores", TensorProto.FLOAT, [1, 1, 2])],
    [info("kept", TensorProto.INT64, [None, 3])],
    [
        helper.make_tensor("most", TensorProto.INT64, [1], [10]),
        helper.make_tensor("iou", TensorProto.FLOAT, [1], [0.5]),
    ],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "nms.onnx")

session = onnxruntime.InferenceSession("nms.onnx", providers=["CPUExecutionProvider"])
compiled = openvino.Core().compile_model("nms.onnx", "CPU")
reference = ReferenceEvaluator(model)
scores = np.array([[[0.9, 0.8]]], np.float32)
seen = {}
for width in (3, 4, 5):
    # an 8 x 8 box, and its left part of `width` columns: their IoU is width / 8
    boxes = np.array([[[0, 0, 8, 8], [0, 0, 8, width]]], np.float32)
    feed = {"boxes": boxes, "scores": scores}
    seen[width / 8] = (
        len(session.run(None, feed)[0]),
        len(reference.run(None, feed)[0]),
        len(compiled([boxes, scores])[0]),
    )
    print(f"IoU {width / 8}: kept by ONNX Runtime, reference, OpenVINO: {seen[width / 8]}")
assert seen == {0.375: (2, 2, 2), 0.5: (2, 2, 1), 0.625: (1, 1, 1)}
PYTHON
