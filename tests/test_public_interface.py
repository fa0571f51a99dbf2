"""The public names: each is there, none is hidden by a folder, and an editor knows its type."""

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import maskrt

ROOT = Path(__file__).resolve().parent.parent
SNIPPET = Path(__file__).with_name("typed_snippet.py")


@pytest.mark.parametrize("name", maskrt.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    found = getattr(maskrt, name)
    assert found.__name__ == name
    assert inspect.getdoc(found)
    assert inspect.isclass(found) or inspect.isfunction(found)


def test_no_public_name_is_that_of_a_folder() -> None:
    """Importing `maskrt.x` sets `maskrt.x`, and a function of that name is gone."""
    taken = {path.stem for path in (ROOT / "maskrt").iterdir()}
    taken |= {"core", "export", "calib", "plugins", "runtime"}
    assert not taken & set(maskrt.__all__)
    for name in ("packaging.package", "running.bench", "inspection", "runtime.doctor"):
        importlib.import_module(f"maskrt.{name}")
    assert all(callable(getattr(maskrt, name)) for name in maskrt.__all__)


def test_every_verb_is_a_function_of_its_name() -> None:
    from maskrt.cli.verbs import _VERBS

    others = {"export": "export_bundle", "demo": "run_demo"}
    names = {others.get(verb, verb) for verb in _VERBS}
    assert names <= set(maskrt.__all__)


def test_the_lists_for_editors_and_for_python_are_one() -> None:
    """`TYPE_CHECKING`'s imports name the same module for each name as the lazy table."""
    source = (ROOT / "maskrt" / "__init__.py").read_text(encoding="utf-8")
    shown = {
        name.strip(): home
        for home, names in re.findall(r"^    from (\S+) import (.+)$", source, re.MULTILINE)
        for name in names.split(",")
    }
    assert shown == maskrt._HOME_OF
    assert sorted(shown) == sorted(maskrt.__all__)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment whose site-packages hold maskrt as a wheel would; returns its Python."""
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    folder = tmp_path_factory.mktemp("typed") / "venv"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(folder)],
        check=True,
    )
    (site,) = folder.glob("lib/python*/site-packages")
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "shared.pth").write_text("\n".join(here) + "\n")
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    places = setup["setuptools"]["package-dir"]
    for package in setup["setuptools"]["packages"]:
        known = max((p for p in places if f"{package}.".startswith(f"{p}.")), key=len)
        inside = package.removeprefix(known).strip(".").replace(".", "/")
        into = site / package.replace(".", "/")
        into.mkdir(parents=True, exist_ok=True)
        for file in (ROOT / places[known] / inside).glob("*.py"):
            shutil.copy(file, into)
    for file in setup["setuptools"]["package-data"]["maskrt"]:
        shutil.copy(ROOT / "maskrt" / file, site / "maskrt" / file)
    return folder / "bin" / "python"


@pytest.mark.slow
def test_an_editor_knows_what_predict_returns(installed: Path, tmp_path: Path) -> None:
    """mypy on a caller's file, over the installed package: every type as stated, every mistake."""
    pytest.importorskip("mypy")
    snippet = tmp_path / "caller.py"
    shutil.copy(SNIPPET, snippet)
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--python-executable", installed, "--config-file=",
            "--ignore-missing-imports", f"--cache-dir={tmp_path / 'cache'}", snippet,
        ],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    said = re.findall(r"caller\.py:(\d+): error: .*\[([\w-]+)\]", done.stdout)
    wrong = [
        (str(number), kind)
        for number, line in enumerate(snippet.read_text(encoding="utf-8").splitlines(), 1)
        for kind in re.findall(r"# wrong: ([\w-]+)", line)
    ]
    assert said == wrong, done.stdout + done.stderr
    assert len(wrong) == 4


@pytest.mark.slow
def test_without_py_typed_the_editor_would_know_nothing(installed: Path, tmp_path: Path) -> None:
    """So the test above is about what ships."""
    pytest.importorskip("mypy")
    (marker,) = installed.parent.parent.glob("lib/python*/site-packages/maskrt/py.typed")
    hidden = marker.rename(marker.with_name("hidden"))
    try:
        done = subprocess.run(
            [
                sys.executable, "-m", "mypy", "--python-executable", installed,
                "--config-file=", f"--cache-dir={tmp_path / 'cache'}", "-c", "import maskrt",
            ],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
    finally:
        hidden.rename(marker)
    assert "missing library stubs or py.typed marker" in done.stdout
