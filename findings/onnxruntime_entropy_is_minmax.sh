#!/usr/bin/env bash
# Package: onnxruntime 1.32.0 (its quantization tools); onnx 1.23.2 (file).
#
# One would guess: CalibrationMethod.Entropy searches the clipping threshold with the smallest KL
# divergence, so that one wild value in 4,096 doesn't set the scale of an activation.
#
# Seen: with the defaults (128 bins, 128 quantised bins) there is one candidate, the whole range.
# The result is the minimum and maximum to the last bit: [-3.9, 100] for normal numbers with one
# value of 100. With num_bins=2048 the same method gives 9 instead of 100.
#
# Why it matters: "entropy was no better than min-max" is then no finding about entropy. The scale
# of the example is eleven times too coarse.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --no-compile --disable-pip-version-check \
    onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import contextlib
import io
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import calibrate

SIDE = 64
info = helper.make_tensor_value_info
graph = helper.make_graph(
    [helper.make_node("Conv", ["x", "w"], ["y"])],
    "one_convolution",
    [info("x", TensorProto.FLOAT, [1, 1, SIDE, SIDE])],
    [info("y", TensorProto.FLOAT, [1, 1, SIDE, SIDE])],
    [numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "model.onnx")


class Pictures(calibrate.CalibrationDataReader):
    def __init__(self, pictures: Iterable[np.ndarray]) -> None:
        self._rest = iter(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        picture = next(self._rest, None)
        return None if picture is None else {"x": picture}


def calibrated(picture: np.ndarray, method: calibrate.CalibrationMethod, **options: int) -> tuple:
    with contextlib.redirect_stdout(io.StringIO()):
        calibrator = calibrate.create_calibrator(
            "model.onnx",
            ["Conv"],
            "augmented.onnx",
            calibrate_method=method,
            extra_options=options,
        )
        calibrator.collect_data(Pictures([picture]))
        low, high = calibrator.compute_data()["x"].range_value
    return float(np.asarray(low).item()), float(np.asarray(high).item())


calm = np.random.default_rng(0).standard_normal((1, 1, SIDE, SIDE)).astype(np.float32)
wild = calm.copy()
wild[0, 0, 0, 0] = 100
method = calibrate.CalibrationMethod
for name, picture in {"calm": calm, "one value of 100": wild}.items():
    low_high = float(picture.min()), float(picture.max())
    entropy = calibrated(picture, method.Entropy)
    print(
        f"{name}: min and max {low_high}, MinMax {calibrated(picture, method.MinMax)}, "
        f"Entropy {entropy}"
    )
    assert calibrated(picture, method.MinMax) == low_high
    assert entropy == low_high, "the entropy method searches now"
searched = calibrated(wild, method.Entropy, num_bins=2048)
print(f"one value of 100: Entropy with 2,048 bins {searched}")
assert searched[1] < 20
PYTHON
