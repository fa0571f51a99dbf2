"""A kit's own install script and smoke test, in a Python without a network; wheels by pip itself.

The x86-64 twin of a Jetson's kit is installed and runs up to where a GPU is needed, and its smoke
test to the end on target `cpu`; the Jetson's own wheels are resolved and looked at.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maskrt.core import Bundle, Target
from maskrt.kit import Place, make_kit, places_of
from maskrt.kit.wheelhouse import fetch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the scripts are for sh"),
]
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def _offline(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a network of its own, which has nothing; elsewhere with a dead proxy."""
    bare = {"PATH": os.environ["PATH"], "https_proxy": "http://127.0.0.1:9", **environment}
    isolate = ["unshare", "--net"] if _can_isolate() else []
    return subprocess.run(
        [*isolate, *words], env=bare, cwd="/", capture_output=True, text=True, check=False
    )


def _can_isolate() -> bool:
    tried = shutil.which("unshare") and subprocess.run(
        ["unshare", "--net", "true"], capture_output=True, check=False
    )
    return bool(tried) and tried.returncode == 0


def test_a_kit_installs_and_runs_without_a_network(
    bundle: Bundle, images: Path, tmp_path: Path
) -> None:
    (jetson, *_) = places_of(Target.parse("orin-nx"))
    twin = Place(HERE, machine=platform.machine(), packages=(*jetson.packages, "onnxruntime>=1.23"))
    kit = make_kit(bundle, tmp_path / "kit", target="orin-nx", images=images, places=[twin])
    python = Path(sys.base_prefix) / "bin" / f"python{HERE}"
    done = _offline(["sh", str(kit / "install.sh")], PYTHON=str(python))
    assert done.returncode == 0, done.stderr
    assert "maskrt" in done.stdout

    listed = _offline([str(kit / "venv/bin/python"), "-m", "pip", "list", "--local"]).stdout
    assert re.search(r"^numpy +1\.26", listed, re.MULTILINE), listed
    assert re.search(r"^cuda-bindings +12\.8", listed, re.MULTILINE), listed
    assert "torch" not in listed
    checked = _offline([str(kit / "venv/bin/python"), "-m", "pip", "check"])
    assert checked.returncode == 0, checked.stdout

    stopped = _offline(["sh", str(kit / "smoke.sh")])
    assert stopped.returncode == 1
    assert stopped.stdout.splitlines()[-1].startswith("FAILED: target orin-nx cannot be built here")
    assert "Traceback" not in stopped.stderr
    passed = _offline(["sh", str(kit / "smoke.sh"), "--target", "cpu", "--runs", "2"])
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert passed.stdout.splitlines()[-1] == "PASSED"
    assert json.loads((kit / "smoke.json").read_text())["agreement"]["found_again"] == 9
    compiled = (
        "from maskrt.plugins import OPERATORS\n"
        "from maskrt.plugins.adapters.nvrtc import compile_plan, supported_sms\n"
        "from maskrt.plugins.launch import Tensor\n"
        "plan = OPERATORS['BatchedNMS'].launch({'iou_threshold': .5, 'score_threshold': .1,\n"
        "    'max_outputs': 5, 'class_agnostic': 0}, [Tensor((1, 9, 4), 'float32'),\n"
        "    Tensor((1, 9), 'float32'), Tensor((1, 9), 'int32')])\n"
        "print(len(compile_plan(plan, 87, 'cubin').code))"
    )
    kernels = _offline([str(kit / "venv/bin/python"), "-c", compiled])
    assert int(kernels.stdout) > 1000, kernels.stderr


@pytest.mark.parametrize("python", ["3.10", "3.12"])
def test_a_jetsons_wheels_fit_it(tmp_path: Path, python: str) -> None:
    (place,) = places_of(Target.parse("orin-nx"), [python])
    fetch(place, tmp_path)
    names = [path.name for path in tmp_path.glob("*.whl")]
    listed = dict(line.split("==") for line in (tmp_path / "requirements.txt").read_text().split())
    assert len(names) == len(listed) - 1  # maskrt's own is written beside them
    for name in names:
        tag, abi, where = name.removesuffix(".whl").rsplit("-", 3)[-3:]
        assert abi in (place.tag, "abi3", "none"), name
        assert tag == place.tag or tag.startswith(("py3", "py2.py3", "cp3")), name
        assert where == "any" or "aarch64" in where, name
        for glibc in re.findall(r"manylinux_2_(\d+)_aarch64", where)[:1]:
            assert int(glibc) <= 35, name
    expected = {"3.10": ("1.26", "12.8"), "3.12": ("2.", "13.")}[python]
    assert listed["numpy"].startswith(expected[0])
    assert listed["cuda-bindings"].startswith(expected[1])
    assert {"onnx", "pillow", "pycocotools", "pip", "maskrt"} <= set(listed)
