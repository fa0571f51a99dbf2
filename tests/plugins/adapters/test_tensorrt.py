"""The TensorRT plugins on TensorRT's own registry and `plugin` package, of two versions.

`checks_v3.py` and `checks_aot.py` are run once for each version, in a process of its own, since a
process holds one TensorRT. `make test` puts the versions into `build/lean`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
LEAN = HERE.parents[2] / "build" / "lean"
VERSIONS = ("10.16.1.11", "11.4.0.106")


@pytest.mark.torch
@pytest.mark.parametrize("checks", ["checks_v3.py", "checks_aot.py"])
@pytest.mark.parametrize("version", VERSIONS)
def test_plugins_in_tensorrt(version: str, checks: str) -> None:
    if not (LEAN / version).is_dir():
        pytest.skip(f"TensorRT's registry is not here: run `make build/lean/{version}`")
    paths = [str(LEAN / version), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / checks)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True, text=True, check=False, cwd=HERE.parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\b\d{2,} passed", done.stdout)
