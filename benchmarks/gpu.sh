#!/usr/bin/env bash
# Builds, checks and times every kernel on this machine's GPU, and checks whole frames in CUDA graphs
# (cuda-python or pycuda): at most 8 minutes, one JSON file.
#
#     benchmarks/gpu.sh [FILE]      default: benchmarks/results/<GPU's name>.json
#
# Needs Python with torch, torchvision, numpy and onnx, NVIDIA's driver, and pytest for the checks.
# Without an installed maskrt, the tree itself is used.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
if ! "$python" -c 'import maskrt' 2>/dev/null; then
    rm -rf build/tree && mkdir -p build/tree
    cp -r maskrt build/tree/maskrt
    cp -r core export calib plugins runtime build/tree/maskrt/
    export PYTHONPATH="$PWD/build/tree${PYTHONPATH:+:$PYTHONPATH}"
fi
name=$("$python" -c 'import torch; print(torch.cuda.get_device_name().replace(" ", "_"))')
file=${1:-benchmarks/results/$name.json}
timeout 240 "$python" -m pytest -q -m gpu tests/plugins tests/runtime/cuda
timeout 240 "$python" benchmarks/kernels.py --json "$file"
echo "wrote $file"
