#!/usr/bin/env bash
# Packages: tensorrt-rtx 1.7.1.116; onnx 1.23.2 (file and reference). No GPU: the parsed network is
# read.
#
# One would guess: QuantizeLinear with a uint8 zero point of 0 (the usual form after a ReLU, and
# what ONNX Runtime's quantiser writes) is built as written, or refused as a zero point of 3 is.
#
# Seen: the parser takes it, gives the layer the type INT8 and says so in a warning alone. 0..255 is
# then -128..127: with a scale of 1/255 for activations up to 1, nothing above 127/255 can come out.
# ONNX's reference gives 1 for 1.
#
# Why it matters: a file whose INT8 accuracy was measured in ONNX Runtime loses the upper half of
# every activation, in an engine that builds without an error. (The parser has a flag to import
# uint8.)
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
from onnx.reference import ReferenceEvaluator


class Log(tensorrt.ILogger):
    def __init__(self) -> None:
        tensorrt.ILogger.__init__(self)
        self.warnings: list[str] = []

    def log(self, severity: tensorrt.ILogger.Severity, message: str) -> None:
        if severity == tensorrt.ILogger.Severity.WARNING:
            self.warnings.append(message)


def rounded(zero_point: int) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    shape = [1, 8, 4, 4]
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "quantise"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], "dequantise"),
        ],
        "rounded",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(np.array(1 / 255, np.float32), "scale"),
            numpy_helper.from_array(np.array(zero_point, np.uint8), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def parse(model: onnx.ModelProto) -> tuple[bool, list, list[str]]:
    log = Log()
    builder = tensorrt.Builder(log)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, log)
    taken = parser.parse(model.SerializeToString())
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    types = [
        layer.get_output(0).dtype for layer in layers if layer.type == tensorrt.LayerType.QUANTIZE
    ]
    built = False
    if taken:
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(tensorrt.ComputeCapability.SM89, 0)
        built = builder.build_serialized_network(network, config) is not None
    return built, types, log.warnings


ones = np.ones((1, 8, 4, 4), np.float32)
reference = ReferenceEvaluator(rounded(0)).run(None, {"x": ones})[0]
built, types, warnings = parse(rounded(0))
refused = not parse(rounded(3))[0]
print(f"reference: {reference.max():.3f} for 1; largest INT8 level: {127 / 255:.3f}")
print(
    f"zero point 0: built {built}, types {types}\n  {warnings[:1]}\nzero point 3: refused {refused}"
)
assert reference.min() > 0.999
assert built
assert types == [tensorrt.DataType.INT8]
assert any("UINT8" in warning and "INT8 instead" in warning for warning in warnings)
assert refused
PYTHON
