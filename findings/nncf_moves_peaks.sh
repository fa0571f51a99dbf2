#!/usr/bin/env bash
# Packages: nncf 3.4.0, openvino 2026.4.0; onnx 1.23.2 (file).
#
# One would guess: post-training quantisation makes convolutions and products integer, and leaves
# comparisons alone: they cost nothing, and their answer is yes or no.
#
# Seen: with nncf.quantize's defaults the operands of a comparison are rounded to 8 bits too. A heat
# map's peaks (pixels equal to the maximum of their 3 x 3 neighbours) then number three times as
# many, since neighbours round to one value. The network's convolution is quantised in both cases;
# with IgnoredScope(types=["Equal"]) there are 250 peaks for FP32's 241.
#
# Why it matters: what follows a detector's network in its graph (peaks, NMS, "is the score above",
# "is the pixel inside the box") is comparisons. They break, and the quantised layers are blamed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --no-compile --disable-pip-version-check \
    nncf==3.4.0 openvino==2026.4.0 onnx==1.23.2 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import logging

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper

logging.disable(logging.WARNING)
import nncf  # noqa: E402

SIDE, CHANNELS = 64, 16
RANDOM = np.random.default_rng(0)
ROWS, COLUMNS = np.meshgrid(*[np.arange(SIDE) / SIDE * 2 * np.pi] * 2, indexing="ij")


def smooth_features() -> np.ndarray:
    """Waves of one to three periods a side: float32 `[1, 16, 64, 64]`."""
    periods = RANDOM.integers(1, 4, (CHANNELS, 2))
    phases = RANDOM.uniform(0, 2 * np.pi, CHANNELS)
    waves = [np.sin(a * ROWS + b * COLUMNS + p) for (a, b), p in zip(periods, phases, strict=True)]
    return np.stack(waves)[None].astype(np.float32)


info = helper.make_tensor_value_info
graph = helper.make_graph(
    [
        helper.make_node("Conv", ["features", "weight"], ["heat"]),
        helper.make_node("MaxPool", ["heat"], ["top"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Equal", ["heat", "top"], ["is_peak"]),
        helper.make_node("Cast", ["is_peak"], ["peaks"], to=TensorProto.FLOAT),
    ],
    "peaks",
    [info("features", TensorProto.FLOAT, [1, CHANNELS, SIDE, SIDE])],
    [info("peaks", TensorProto.FLOAT, [1, 1, SIDE, SIDE])],
    [
        numpy_helper.from_array(
            RANDOM.uniform(-1, 1, (1, CHANNELS, 1, 1)).astype(np.float32), "weight"
        )
    ],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "peaks.onnx")

core = openvino.Core()
pictures = [smooth_features() for _ in range(20)]


def peaks(network: openvino.Model) -> list[int]:
    compiled = core.compile_model(network, "CPU")
    return [int((compiled(picture)[0] > 0.5).sum()) for picture in pictures]


def readers_of_rounded(network: openvino.Model) -> set[str]:
    return {
        target.get_node().get_type_name()
        for node in network.get_ops()
        if node.get_type_name() == "FakeQuantize"
        for target in node.output(0).get_target_inputs()
    }


def quantised(**options: object) -> openvino.Model:
    data = nncf.Dataset(pictures)
    return nncf.quantize(core.read_model("peaks.onnx"), data, subset_size=20, **options)


default = quantised()
spared = quantised(ignored_scope=nncf.IgnoredScope(types=["Equal"]))
seen = {
    "FP32": peaks(core.read_model("peaks.onnx")),
    "defaults": peaks(default),
    "Equal ignored": peaks(spared),
}
for name, counts in seen.items():
    print(f"{name}: peaks in 20 heat maps {counts}, {sum(counts)} in all")
print(f"defaults: 8-bit operands of {sorted(readers_of_rounded(default))}")
print(f"Equal ignored: 8-bit operands of {sorted(readers_of_rounded(spared))}")
assert "Equal" in readers_of_rounded(default)
assert readers_of_rounded(spared) == {"Convolution"}
assert sum(seen["defaults"]) > 2 * sum(seen["FP32"])
assert abs(sum(seen["Equal ignored"]) - sum(seen["FP32"])) < 0.2 * sum(seen["FP32"])
PYTHON
