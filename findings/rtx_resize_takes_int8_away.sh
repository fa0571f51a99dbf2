#!/usr/bin/env bash
# Packages: tensorrt-rtx 1.7.1.116; onnx 1.23.2 (file and reference). No GPU: the program is read as
# text out of the plan.
#
# One would guess: a nearest Resize moves values and computes none, so it makes no difference
# whether the Q/DQ pair stands before or behind it. Guides say to quantise its input, the smaller
# tensor.
#
# Seen: with the pair before the Resize the convolution behind it reads FP16: its INT8 weights are
# turned into FP16 by a kernel of their own. With the pair behind the Resize it reads INT8. ONNX's
# reference gives the same numbers for both graphs, to the last bit.
#
# Why it matters: the layers of a feature pyramid and of a mask head stand behind such Resizes: the
# largest maps. The engine says INT8 in its input file and computes them in FP16.
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
from onnx.reference import ReferenceEvaluator

CHANNELS, SIDE = 64, 28


def convolution(*, resize_first: bool) -> onnx.ModelProto:
    """Q, DQ and a nearest Resize by 2, in one order or the other, before a convolution."""
    random = np.random.default_rng(0)
    constants = {
        "scale": np.array(0.05, np.float16),
        "zero": np.array(0, np.int8),
        "by": np.array([1, 1, 2, 2], np.float32),
        "w": random.integers(-100, 100, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8),
        "w_scale": np.array(2e-3, np.float16),
    }
    node, value = helper.make_node, helper.make_tensor_value_info

    def round_to_int8(tensor: str, rounded: str) -> list[onnx.NodeProto]:
        return [
            node("QuantizeLinear", [tensor, "scale", "zero"], ["q"]),
            node("DequantizeLinear", ["q", "scale", "zero"], [rounded]),
        ]

    def resize(tensor: str, larger: str) -> list[onnx.NodeProto]:
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return [node("Resize", [tensor, "", "by"], [larger], mode="nearest", **how)]

    if resize_first:
        nodes = resize("x", "between") + round_to_int8("between", "ready")
    else:
        nodes = round_to_int8("x", "between") + resize("between", "ready")
    nodes += [
        node("DequantizeLinear", ["w", "w_scale", "zero"], ["k"]),
        node("Conv", ["ready", "k"], ["y"], "Conv", pads=[1] * 4),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [value("x", TensorProto.FLOAT16, [1, CHANNELS, SIDE, SIDE])],
        [value("y", TensorProto.FLOAT16, [1, CHANNELS, 2 * SIDE, 2 * SIDE])],
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


def what_the_convolution_reads(program: str) -> str:
    (statement,) = re.findall(r'corrltn=\{ name="Conv".*', program)
    features = re.search(r' input=\{"([^"]*)"', statement)[1]
    return re.search(rf'tensor=\{{.*\bname="{re.escape(features)}".*\btype=(\w+) ', program)[1]


x = np.random.default_rng(1).standard_normal((1, CHANNELS, SIDE, SIDE)).astype(np.float16)
before, behind = convolution(resize_first=False), convolution(resize_first=True)
results = [ReferenceEvaluator(model).run(None, {"x": x})[0] for model in (before, behind)]
reads = [what_the_convolution_reads(plan(model)) for model in (before, behind)]
print(f"the reference's results are equal: {np.array_equal(*results)}")
print(f"Q/DQ before the Resize: the convolution reads {reads[0]}; behind it: {reads[1]}")
assert np.array_equal(*results)
assert reads == ["half", "int8"]
PYTHON
