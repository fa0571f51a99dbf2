#!/usr/bin/env bash
# Both ends of each dependency's range: an environment of the lowest versions that pyproject.toml
# allows, and of the newest, each on a Python of its own; the same sample of tests in each.
#
#     benchmarks/bounds.sh oldest PYTHON3.10 | newest PYTHON3.13 | device PYTHON3.12  [pytest arguments]
#
# `device` has what a device needs: no PyTorch, no TensorRT-RTX; what needs them is skipped.
# The environment lies in $TMPDIR and is removed afterwards; PyTorch's takes 7 GB.
set -euo pipefail
cd "$(dirname "$0")/.."
way=$1 python=$2
shift 2
make --silent build/uv
folder=$(mktemp -d -t maskrt-bounds-XXXX)
trap 'rm -rf "$folder"' EXIT
export UV_CACHE_DIR=$folder/cache UV_LINK_MODE=hardlink UV_PYTHON_DOWNLOADS=never
uv=$PWD/build/uv/bin/uv
case $way in
oldest) resolution=lowest-direct extras=test ;;
newest) resolution=highest extras=test ;;
device) resolution=highest extras=cpu ;;
*) echo "oldest, newest or device, not $way" >&2; exit 2 ;;
esac
"$uv" venv --quiet --python "$python" "$folder/venv"
# A copy, so that no environment changes what this folder's own is built from.
git archive --prefix=maskrt/ "$(git stash create || true)" 2>/dev/null | tar x -C "$folder" \
	|| git archive --prefix=maskrt/ HEAD | tar x -C "$folder"
more=()
test "$way" = device && more=(pytest hypothesis pytest-timeout scikit-image opencv-python-headless)
"$uv" pip install --quiet --python "$folder/venv/bin/python" --resolution $resolution \
	--editable "$folder/maskrt[$extras]"
test ${#more[@]} = 0 || "$uv" pip install --quiet --python "$folder/venv/bin/python" "${more[@]}"
"$uv" pip list --python "$folder/venv/bin/python" | grep -iE \
	'^(numpy|onnx|onnxruntime|onnxscript|torch|torchvision|pillow|opencv|pycocotools|click|rich|safetensors|scikit-image|timm|distributed|tensorrt[-_]rtx|cuda-bindings|hypothesis|pytest|jsonschema|html5lib|pyyaml)' || true
"$folder/venv/bin/python" --version
rm -rf "$folder/cache"
cd "$folder/maskrt"
# What depends most on others: graphs and their rendering, INT8 as it was asked for, weights and
# pictures that are read, annotations, the command line.
sample=(
	tests/core tests/calib tests/runtime/check tests/runtime/build/test_cpu.py
	tests/runtime/build/test_rewrites.py tests/runtime/test_images.py tests/runtime/test_sources.py
	tests/runtime/test_session.py tests/runtime/backends tests/export/checkpoint
	tests/export/surgery/test_torchvision.py tests/export/surgery/test_refused_files.py
	tests/export/families/test_grid_families.py tests/checking/test_divergence.py
	tests/running/test_pictures.py tests/cli tests/fuzz
)
# Without PyTorch: what runs engines, reads pictures and judges.
test "$way" != device || sample=(
	tests/core tests/runtime/check tests/runtime/backends tests/runtime/test_images.py
	tests/runtime/test_sources.py tests/runtime/test_session.py
)
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "$folder/venv/bin/python" -m pytest -q -p no:xdist \
	-m 'not slow and not rtx' "${sample[@]}" "$@"
