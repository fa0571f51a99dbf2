#!/usr/bin/env bash
# Packages: tensorrt-rtx 1.7.1.116; onnx 1.23.2 (file). No GPU needed.
#
# One would guess: what the ONNX parser accepts can be built, and what cannot raises.
#
# Seen: a TopK of 3,840 of 5,000 builds. One of 3,841 parses without an error or a warning of its
# own, and build_serialized_network returns None. The reason stands only in the logger.
#
# Why it matters: 6,000 candidates before NMS is Faster R-CNN's published number at test time, and a
# dense head has more. The None is then written to a file, or fails far away as "NoneType".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --no-compile --disable-pip-version-check \
    tensorrt-rtx==1.7.1.116 onnx==1.23.2 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import numpy as np
import onnx
import tensorrt_rtx as tensorrt
from onnx import TensorProto, helper, numpy_helper


class Log(tensorrt.ILogger):
    def __init__(self) -> None:
        tensorrt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: tensorrt.ILogger.Severity, message: str) -> None:
        if severity == tensorrt.ILogger.Severity.ERROR:
            self.errors.append(message)


def largest(k: int) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("TopK", ["scores", "k"], ["best", "index"], "candidates")],
        "largest",
        [value("scores", TensorProto.FLOAT, [1, 5000])],
        [value("best", TensorProto.FLOAT, [1, k]), value("index", TensorProto.INT64, [1, k])],
        [numpy_helper.from_array(np.array([k]), "k")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


seen = {}
for k in (3840, 3841):
    log = Log()
    builder = tensorrt.Builder(log)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, log)
    taken = parser.parse(largest(k).SerializeToString())
    complaints = len(log.errors) + parser.num_errors
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(tensorrt.ComputeCapability.SM89, 0)
    engine = builder.build_serialized_network(network, config)
    seen[k] = taken, complaints, engine is not None
    print(f"TopK of {k}: parsed {taken} ({complaints} complaints), engine {engine}")
    print("".join(f"  {error[:150]}\n" for error in log.errors), end="")
assert seen == {3840: (True, 0, True), 3841: (True, 0, False)}
PYTHON
