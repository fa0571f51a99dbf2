"""What maskrt leaves behind and whom it calls: only its own cache and record, and nobody.

All verbs run in a process whose home and temporary folders are empty ones of ours. Their files are
listed after each verb, and `strace`, where there is one, lists the sockets of every thread and
child, native code's too, which Python cannot see.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.torch

_ROOT = Path(__file__).parents[1]
_NETWORK = re.compile(r"AF_INET6?")  # name servers are asked by it, too
_VERBS = """
import sys, time
from pathlib import Path
from maskrt.cli import main

def left(verb):
    time.sleep({wait})  # a reporter works in a thread of its own
    for file in sorted(Path("home").rglob("*")):
        if file.is_file():
            print("LEFT", verb, file, flush=True)

compiled = ["compile", "tests.export.detectors:tiny_mask_rcnn", "-o", "b.maskrt", "--input-size",
            "64", "64", "--precision", "int8", "--calibration", "pictures"]
for words in (
    compiled,
    ["calibrate", "b.maskrt", "--calibration", "pictures"],
    ["recipe", "b.maskrt"],
    ["build", "b.maskrt", "--target", "cpu"],
    *{rtx},
    ["run", "b.maskrt", "pictures", "-o", "out"],
    ["bench", "b.maskrt", "--runs", "1"],
    ["package", "b.maskrt", "--triton", "triton"],
    ["check", "b.maskrt", "--images", "pictures", "--annotations", "a.json"],
    ["inspect", "b.maskrt"],
    ["models"],
    ["targets"],
    ["doctor", "b.maskrt"],
    ["export", "tests.export.detectors:tiny_mask_rcnn", "-o", "c.maskrt", "--input-size",
     "64", "64"],
):
    try:
        main(words)
    except SystemExit as ended:
        print("VERB", words[0], ended.code or 0, flush=True)
    left(words[0])
"""
_ANNOTATIONS = """{"images": [{"id": 1, "file_name": "0.png", "height": 48, "width": 64}],
"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 9, 9], "area": 81,
"iscrowd": 0, "segmentation": [[4, 4, 13, 4, 13, 13, 4, 13]]}],
"categories": [{"id": 1, "name": "1"}, {"id": 2, "name": "2"}, {"id": 3, "name": "3"},
{"id": 4, "name": "4"}]}"""


def _in_empty_home(folder: Path, code: str) -> tuple[str, str]:
    """Run `code` with an empty home; return what it printed and what sockets it opened."""
    (folder / "home" / "tmp").mkdir(parents=True)
    home = str(folder / "home")
    names = ("CACHE", "CONFIG", "DATA", "STATE")
    told = {f"XDG_{name}_HOME": f"{home}/{name.lower()}" for name in names}
    # Few variables: under CI's (CI, GITHUB_ACTIONS, ...) ONNX Runtime reports nothing, so that this
    # test would pass there whatever maskrt does.
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    env = {**kept, **told, "HOME": home, "TMPDIR": f"{home}/tmp", "PYTHONPATH": str(_ROOT)}
    trace = folder / "sockets"
    strace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=connect,sendto", "-o", str(trace)]
    found = [*strace, sys.executable] if shutil.which("strace") else [sys.executable]
    done = subprocess.run(
        [*found, "-c", code], env=env, cwd=folder, capture_output=True, text=True, check=False
    )
    assert "LEFT" in done.stdout or "VERB" in done.stdout, done.stdout + done.stderr
    return done.stdout, trace.read_text() if trace.exists() else ""


@pytest.mark.slow
def test_no_verb_leaves_a_file_outside_the_cache_or_calls_anybody(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for index in range(2):
        noise = np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "pictures" / f"{index}.png")
    (tmp_path / "a.json").write_text(_ANNOTATIONS)
    has_rtx = importlib.util.find_spec("tensorrt_rtx") is not None
    rtx = [["build", "b.maskrt", "--target", "rtx", "--precision", "fp32"]] if has_rtx else []
    printed, sockets = _in_empty_home(tmp_path, _VERBS.format(wait=0.2, rtx=rtx))
    ended = dict(re.findall(r"VERB (\S+) (\S+)", printed))
    assert len(ended) == 13
    failed = {verb for verb, status in ended.items() if status != "0"}
    assert failed <= {"doctor"}
    left = re.findall(r"LEFT (\S+) home/(\S+)", printed)
    own = ("cache/maskrt/", "state/maskrt/record/")  # the record of engines, which is no cache
    assert [(verb, file) for verb, file in left if not file.startswith(own)] == []
    assert any(file.startswith(own[1]) for _, file in left) is has_rtx
    assert any(file.startswith("cache/maskrt/") for _, file in left)
    assert [line for line in sockets.splitlines() if _NETWORK.search(line)] == []


def test_what_another_version_leaves_would_be_seen(tmp_path: Path) -> None:
    import onnxruntime

    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 32):
        pytest.skip("older versions of ONNX Runtime report nothing on this system")
    code = "import onnxruntime, time\nfrom pathlib import Path\ntime.sleep(3)\n"
    code += "for f in Path('home').rglob('*'):\n    print('LEFT', f.is_file(), f)"
    printed, _ = _in_empty_home(tmp_path, code)
    assert re.search("LEFT True", printed)


@pytest.mark.parametrize("own", [None, "0"])
def test_a_users_own_word_stands(own: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskrt.core import require

    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    if own is not None:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", own)
    require("json", "test")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == (own or "1")
    child = "import os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    inherited = subprocess.run(
        [sys.executable, "-c", child], capture_output=True, text=True, check=True
    )
    assert inherited.stdout.strip() == (own or "1")
