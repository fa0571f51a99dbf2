"""The device's half on a Jetson's own processor, emulated: all of it up to the GPU.

`qemu-aarch64-static` runs Debian's Python 3.11 for arm64 (`make build/aarch64`), which stands in
for the 3.10 and 3.12 of JetPack's Ubuntu. A shell script in Python's place starts it, so what it
starts is emulated too; ONNX Runtime is 1.20.1, since 1.32 does not start there.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maskrt.core import Bundle
from maskrt.kit import Place, make_kit
from maskrt.packaging import deepstream
from maskrt.plugins import OPERATORS
from maskrt.plugins.adapters.host import run_plan
from maskrt.plugins.launch import Tensor

ROOT = Path(__file__).resolve().parents[2] / "build" / "aarch64"
NEEDED = ("qemu-aarch64-static", "aarch64-linux-gnu-g++")
MISSING = [name for name in NEEDED if not shutil.which(name)]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(not (ROOT / "root").is_dir(), reason="run `make build/aarch64`"),
]
PACKAGES = ("numpy<2", "cuda-bindings==12.8.*", "pycocotools>=2.0.8", "onnxruntime==1.20.1")
NMS = {"iou_threshold": 0.5, "score_threshold": 0.1, "max_outputs": 5, "class_agnostic": 0}


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Python and a `uname` of an aarch64 machine."""
    folder, root = tmp_path_factory.mktemp("bin"), ROOT / "root"
    start = f'exec qemu-aarch64-static -0 "$0" -L {root} {root}/usr/bin/python3.11 "$@"\n'
    for name, text in (("python3", start), ("uname", "echo aarch64\n")):
        (folder / name).write_text("#!/bin/sh\n" + text)
        (folder / name).chmod(0o755)
    return folder


def _run(wrapped: Path, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    bare = {"PATH": f"{wrapped}:{os.environ['PATH']}", "HOME": str(wrapped), **more}
    return subprocess.run(
        [str(word) for word in words], env=bare, cwd=wrapped, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.fixture
def installed(wrapped: Path, bundle: Bundle, images: Path, tmp_path: Path) -> Path:
    """A kit for an Orin NX, installed by its own script."""
    place = Place("3.11", machine="aarch64", glibc=36, packages=PACKAGES)
    kit = make_kit(bundle, tmp_path / "kit", target="orin-nx", images=images, places=[place])
    python = str(wrapped / "python3")
    done = _run(wrapped, "sh", kit / "install.sh", PYTHON=python, https_proxy="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    return kit


def test_the_devices_half(wrapped: Path, installed: Path, tmp_path: Path) -> None:
    """One test, since the installation takes minutes when it is emulated."""
    stopped = _run(wrapped, "sh", installed / "smoke.sh")
    assert "Linux aarch64, no NVIDIA GPU" in stopped.stdout, stopped.stderr
    assert stopped.stdout.splitlines()[-1].startswith("FAILED: target orin-nx cannot be built here")
    passed = _run(wrapped, "sh", installed / "smoke.sh", "--target", "cpu", "--runs", "1")
    assert passed.stdout.splitlines()[-1] == "PASSED", passed.stdout + passed.stderr
    found = json.loads((installed / "smoke.json").read_text())["agreement"]
    assert (found["found_again"], found["box_iou"], found["mask_iou"]) == (9, 1.0, 1.0)
    _kernels(wrapped, installed / "venv/bin/python", tmp_path)
    _plugins(wrapped, installed / "venv/bin/python")


def _kernels(wrapped: Path, python: Path, folder: Path) -> None:
    """BatchedNMS, compiled for aarch64 and run there, gives this processor's bytes."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (1, 40, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(5, 30, (1, 40, 2))], 2)
    given = [boxes.astype(np.float32), rng.uniform(0, 1, (1, 40)).astype(np.float32),
             rng.integers(0, 2, (1, 40)).astype(np.int32)]  # fmt: skip
    np.savez(folder / "given.npz", *given)
    code = (
        "import sys, numpy as np\n"
        "from maskrt.plugins import OPERATORS\n"
        "from maskrt.plugins.adapters.host import run_plan\n"
        "from maskrt.plugins.launch import Tensor\n"
        "given = list(np.load(sys.argv[1]).values())\n"
        "tensors = [Tensor(value.shape, str(value.dtype)) for value in given]\n"
        f"found = run_plan(OPERATORS['BatchedNMS'].launch({NMS}, tensors), given)\n"
        "np.savez(sys.argv[2], *found)"
    )
    compiler = shutil.which("aarch64-linux-gnu-g++") or ""
    done = _run(wrapped, python, "-c", code, folder / "given.npz", folder / "found.npz",
                CXX=compiler)  # fmt: skip
    assert done.returncode == 0, done.stderr
    there = list(np.load(folder / "found.npz").values())
    tensors = [Tensor(value.shape, str(value.dtype)) for value in given]
    here = run_plan(OPERATORS["BatchedNMS"].launch(NMS, tensors), given)
    for mine, theirs in zip(here, there, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert there[-1].max() > 1


def _plugins(wrapped: Path, python: Path) -> None:
    """TensorRT's own registry of aarch64 takes the plugins, and makes one of its fields."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import tensorrt_lean_bindings as trt\n"
        "from maskrt.plugins import OPERATORS\n"
        "from maskrt.plugins.adapters.tensorrt_fields import fields_of\n"
        "from maskrt.plugins.adapters.tensorrt_v3 import register_plugins\n"
        "made = register_plugins(trt)\n"
        "schema = OPERATORS['BatchedNMS'].schema\n"
        "creator = trt.get_plugin_registry().get_creator('BatchedNMS', '1', 'maskrt')\n"
        f"fields, kept = fields_of(trt, schema, {NMS})\n"
        "plugin = creator.create_plugin('n', fields, trt.TensorRTPhase.BUILD)\n"
        "print(trt.__version__, len(made), plugin.attributes['max_outputs'])"
    )
    done = _run(wrapped, python, "-c", code, ROOT / "lean")
    assert done.stdout.split() == ["10.16.1.11", str(len(OPERATORS)), "5"], done.stderr


def test_deepstreams_parser_compiles_for_aarch64(tmp_path: Path) -> None:
    source = Path(deepstream.__file__).with_name("nvdsinfer_maskrt.cpp")
    headers = Path(__file__).resolve().parents[1] / "packaging" / "deepstream"
    library = tmp_path / "parser.so"
    subprocess.run(
        ["aarch64-linux-gnu-g++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared",
         "-fPIC", f"-I{headers}", "-o", str(library), str(source)],
        check=True,
    )  # fmt: skip
    header = library.read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], sys.byteorder) == 183  # EM_AARCH64
