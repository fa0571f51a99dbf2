#!/usr/bin/env bash
# Packages: nvidia-cuda-nvrtc 13.0.88 (the wheel that PyTorch brings for CUDA 13).
#
# One would guess: the compiler in the wheel compiles. Its two libraries lie side by side.
#
# Seen: opened by its path it loads, makes a program, and answers every compilation with
# NVRTC_ERROR_BUILTIN_OPERATION_FAILURE, since it looks for libnvrtc-builtins on the system's path
# alone. If libnvrtc-builtins is opened first, by its path too, the same program compiles. No GPU is
# needed.
#
# Why it matters: PyTorch opens both, so it works wherever torch was imported before, and fails on
# the device that has the runtime alone.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --no-compile --disable-pip-version-check \
    nvidia-cuda-nvrtc==13.0.88

venv/bin/python - <<'PYTHON'
import subprocess
import sys
import sysconfig
from pathlib import Path

KERNEL = b'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'
COMPILE = """
import ctypes, sys
kernel, *libraries = sys.argv[1:]
nvrtc = [ctypes.CDLL(path) for path in libraries][-1]
nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
program = ctypes.c_void_p()
made = nvrtc.nvrtcCreateProgram(ctypes.byref(program), kernel.encode(), b"twice.cu", 0, None, None)
assert made == 0
print(nvrtc.nvrtcGetErrorString(nvrtc.nvrtcCompileProgram(program, 0, None)).decode())
"""


def compiled(*libraries: Path) -> str:
    """Open the libraries in order, in a new process; return what the last says to a kernel."""
    command = [sys.executable, "-c", COMPILE, KERNEL.decode(), *map(str, libraries)]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env={}
    ).stdout.strip()


packages = Path(sysconfig.get_path("purelib"), "nvidia")
(builtins,) = (p for p in packages.rglob("libnvrtc-builtins.so.*") if ".alt." not in p.name)
(nvrtc,) = (p for p in packages.rglob("libnvrtc.so.*") if ".alt." not in p.name)
assert nvrtc.parent == builtins.parent
seen = {"libnvrtc alone": compiled(nvrtc), "builtins first": compiled(builtins, nvrtc)}
print(seen)
assert seen == {
    "libnvrtc alone": "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE",
    "builtins first": "NVRTC_SUCCESS",
}
PYTHON
