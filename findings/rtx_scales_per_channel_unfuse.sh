#!/usr/bin/env bash
# Packages: tensorrt-rtx 1.7.1.116; onnx 1.23.2 (file). No GPU: the program is read as text out of
# the plan.
#
# One would guess: INT8 weights with a scale for each channel, which guides ask for, cost nothing at
# run time: the scales are folded into the convolution's bias and output.
#
# Seen: with one scale a weight the convolution adds its bias, applies its ReLU and writes FP16.
# With a scale for each channel, the same graph otherwise, it does neither and writes FP32: four
# bytes an element to memory, and one more kernel reads them.
#
# Why it matters: the INT8 engine moves more bytes than the FP16 one, and is slower wherever memory
# is the limit. Per-tensor scales, or FP16, can be the faster choice on this target.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --no-compile --disable-pip-version-check \
    tensorrt-rtx==1.7.1.116 onnx==1.23.2 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import re

import numpy as np
import onnx
import tensorrt_rtx as tensorrt
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIDE = 64, 56


def convolution(*, per_channel: bool) -> onnx.ModelProto:
    """x (FP16) → Q → DQ → Conv with INT8 weights and a bias → Relu → y."""
    random = np.random.default_rng(0)
    scale = random.uniform(1e-3, 2e-3, CHANNELS) if per_channel else np.array(2e-3)
    constants = {
        "scale": np.array(0.05, np.float16),
        "zero": np.array(0, np.int8),
        "w": random.integers(-100, 100, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8),
        "w_scale": scale.astype(np.float16),
        "w_zero": np.zeros(scale.shape, np.int8),
        "bias": random.random(CHANNELS).astype(np.float16),
    }
    axis = {"axis": 0} if per_channel else {}
    node, value = helper.make_node, helper.make_tensor_value_info
    shape = [1, CHANNELS, SIDE, SIDE]
    graph = helper.make_graph(
        [
            node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
            node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["k"], **axis),
            node("Conv", ["d", "k", "bias"], ["c"], "Conv", pads=[1] * 4),
            node("Relu", ["c"], ["y"]),
        ],
        "convolution",
        [value("x", TensorProto.FLOAT16, shape)],
        [value("y", TensorProto.FLOAT16, shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def plan(model: onnx.ModelProto) -> str:
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    assert tensorrt.OnnxParser(network, logger).parse(model.SerializeToString())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(tensorrt.ComputeCapability.SM89, 0)
    return bytes(builder.build_serialized_network(network, config)).decode("latin-1")


def what_the_convolution_does(program: str) -> dict[str, str]:
    (statement,) = re.findall(r'corrltn=\{ name="Conv".*', program)
    output = re.search(r'output=\{"([^"]*)"', statement)[1]
    return {
        "bias": re.search(r"\bbias=(\w+)", statement)[1],
        "relu": re.search(r"\brelu=(\w+)", statement)[1],
        "writes": re.search(rf'tensor=\{{.*\bname="{re.escape(output)}".*\btype=(\w+) ', program)[
            1
        ],
    }


seen = {}
for per_channel in (False, True):
    seen[per_channel] = what_the_convolution_does(plan(convolution(per_channel=per_channel)))
    print("a scale for each channel:" if per_channel else "one scale:", seen[per_channel])
assert seen[False] == {"bias": "true", "relu": "true", "writes": "half"}
assert seen[True] == {"bias": "false", "relu": "false", "writes": "float"}
PYTHON
