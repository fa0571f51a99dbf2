"""The TensorRT plugins on TensorRT's own registry and `plugin` package, of five versions.

`checks_v3.py` and `checks_aot.py` are run once for each version and NumPy, in a process of its own,
since a process holds one TensorRT. `make test` puts two whole versions into `build/lean`, and
`make test-slow` the bindings of older ones into `build/bindings`, which run over the library of
10.16, and NumPy 1.26 into `build/numpy`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[2] / "build"
V3, AOT = "checks_v3.py", "checks_aot.py"
OLD_NUMPY = BUILD / "numpy" / "1.26.4"
LIBRARY = BUILD / "lean" / "10.16.1.11"
OLDER = [
    ("10.3.0", V3),
    ("10.9.0.34", V3),
    ("10.9.0.34", AOT),
    ("10.13.3.9", V3),
    ("10.13.3.9", AOT),
]


@pytest.mark.torch
@pytest.mark.parametrize("checks", [V3, AOT])
@pytest.mark.parametrize("version", ["10.16.1.11", "11.4.0.106"])
def test_plugins_in_tensorrt(version: str, checks: str) -> None:
    _run(checks, [BUILD / "lean" / version], "2.")


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("numpy", ["2.", "1.26."])
@pytest.mark.parametrize(("version", "checks"), OLDER)
def test_plugins_with_the_bindings_of_older_versions(version: str, checks: str, numpy: str) -> None:
    own = [OLD_NUMPY] if numpy == "1.26." else []
    _run(checks, [*own, BUILD / "bindings" / version, LIBRARY], numpy)


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("checks", [V3, AOT])
@pytest.mark.parametrize("version", ["10.16.1.11", "11.4.0.106"])
def test_plugins_in_tensorrt_with_an_older_numpy(version: str, checks: str) -> None:
    _run(checks, [OLD_NUMPY, BUILD / "lean" / version], "1.26.")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["10.3.0", "10.9.0.34", "10.13.3.9"])
def test_why_fields_are_numbers(version: str) -> None:
    """Longer fields are misread by these with NumPy 2, and fields of one element are not."""
    code = (
        "import numpy as np, tensorrt_lean as t\n"
        "for v in ([.25, .125], [.25]):\n"
        "    data = np.array(v, np.float32)\n"
        "    print(t.PluginField('f', data, t.PluginFieldType.FLOAT32).data.tolist())"
    )
    done = _python(["-c", code], [BUILD / "bindings" / version, LIBRARY])
    assert done.stdout.splitlines() == ["[0.25, 0.25]", "[0.25]"], done.stderr


def _run(checks: str, folders: list[Path], numpy: str) -> None:
    shown = "import numpy; print(numpy.__version__)"
    assert _python(["-c", shown], folders).stdout.startswith(numpy)
    done = _python(["-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / checks)], folders)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\b\d{2,} passed", done.stdout)


def _python(words: list[str], folders: list[Path]) -> subprocess.CompletedProcess[str]:
    """Run Python with these folders before its own packages."""
    for folder in folders:
        if not folder.is_dir():
            where = folder.relative_to(BUILD.parent)
            pytest.skip(f"a part of TensorRT's bindings is not here: run `make {where}`")
    paths = [*map(str, folders), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True, text=True, check=False, cwd=HERE.parents[2],
    )  # fmt: skip
