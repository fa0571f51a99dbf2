"""Ctrl-C in the middle of a real build: the bundle is as it was, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskrt.calib import make_recipe
from maskrt.core import Bundle, InputSpec, Manifest, Precision
from maskrt.core.bundle import MODEL, RECIPE

pytestmark = pytest.mark.rtx
_DEADLINE = 60.0


@pytest.fixture
def bundle(small_network, tmp_path: Path) -> Bundle:
    """A bundle of the small network that has an engine already."""
    model = small_network(
        "fp32",
    )
    manifest = Manifest("test", InputSpec(32, 32), {"logits": (1, 10)})
    with Bundle.create(tmp_path / "b.maskrt", manifest) as made:
        made.write(MODEL, model.SerializeToString())
        made.write(RECIPE, make_recipe(model, Precision.FP32, None).to_json())
        made.write("engines/rtx/engine.json", {"old": True})
        made.write("engines/rtx/engine.trt", b"old")
    return Bundle.open(tmp_path / "b.maskrt")


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def _wait_for_the_worker(process: subprocess.Popen[bytes]) -> int:
    """Return the process id of the worker once it has loaded TensorRT-RTX."""
    started = time.monotonic()
    while time.monotonic() - started < _DEADLINE:
        assert process.poll() is None, process.communicate()
        for child in _children(process.pid):
            maps = Path(f"/proc/{child}/maps")
            if maps.exists() and "tensorrt_rtx" in maps.read_text():
                return child
        time.sleep(0.005)
    raise AssertionError("the worker did not start")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for children in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_no_half_written_engine(bundle: Bundle, tmp_path: Path, number: int) -> None:
    before = {p: p.read_bytes() for p in bundle.path.rglob("*") if p.is_file()}
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    cache = tmp_path / "cache"
    process = subprocess.Popen(
        [sys.executable, "-m", "maskrt", "build", str(bundle.path), "--target", "rtx"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary), "MASKRT_CACHE": str(cache)},
        # A shell starts what runs in its background with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )  # fmt: skip
    worker = _wait_for_the_worker(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=_DEADLINE)
    assert process.returncode == 128 + number
    assert err.decode().rstrip().endswith("stopped.")
    assert b"Traceback" not in err
    assert not Path(f"/proc/{worker}").exists()
    assert {p: p.read_bytes() for p in bundle.path.rglob("*") if p.is_file()} == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == ["b.maskrt", "tmp"]
    assert list(temporary.iterdir()) == []
    assert list(cache.rglob("*")) == []
