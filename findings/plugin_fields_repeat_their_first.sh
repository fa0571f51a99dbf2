#!/usr/bin/env bash
# Packages: TensorRT's lean Python bindings 10.13.3.9 and 10.15.1.29, with numpy 2.3.5 and 1.26.4,
# over the lean library 10.16.1.11 (they load it; their own library is not a plain wheel).
#
# One would guess: a PluginField made from the array [7, 14, 21] reads back as [7, 14, 21].
#
# Seen: with NumPy 2 it reads [7, 7, 7]; with NumPy 1.26, the same wheel, [7, 14, 21]. The size is
# right in both, and nothing is said. 10.16's bindings are right with both.
#
# Why it matters: strides, scales per level, class weights: a plugin that is handed a list gets its
# first number for all. JetPack 7.0 and 7.1 have 10.13. Pass single numbers, or pin numpy below 2.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
cat >fields.py <<'PYTHON'
import numpy as np
import tensorrt_lean_bindings as tensorrt

right = {"1": True, "2": tensorrt.__version__.startswith("10.16")}[np.__version__[0]]
for dtype, kind in (
    (np.int32, tensorrt.PluginFieldType.INT32),
    (np.float32, tensorrt.PluginFieldType.FLOAT32),
):
    given = np.array([7, 14, 21], dtype)
    field = tensorrt.PluginField("strides", given, kind)
    read = np.asarray(field.data).tolist()
    print(
        f"bindings {tensorrt.__version__}, numpy {np.__version__}, {kind.name}: "
        f"{field.size} elements, {read}"
    )
    assert field.size == 3
    assert read == ([7, 14, 21] if right else [7, 7, 7])
PYTHON

seen() { # BINDINGS NUMPY
    venv/bin/pip install --quiet --no-compile --disable-pip-version-check --no-deps \
        "tensorrt-lean-cu12-bindings==$1" tensorrt-lean-cu12-libs==10.16.1.11 "numpy==$2"
    venv/bin/python fields.py
}

seen 10.13.3.9 2.3.5
seen 10.15.1.29 2.3.5
seen 10.15.1.29 1.26.4
seen 10.16.1.11 2.3.5
seen 10.16.1.11 1.26.4
