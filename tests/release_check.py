"""All that can be known before a release without making one: `make release-check`.

    python tests/release_check.py --tools build/release [--python PYTHON ...]

Wheel and sdist are built, hold what they should, are under two megabytes, and pass `twine check`;
the version is one in pyproject.toml, CHANGELOG.md and CITATION.cff, which is valid; the wheel of
the sdist is the wheel. The wheel is then installed where maskrt has never been, outside the clone:
by itself, with `cpu`, and with `export`, whose packages, gigabytes of them, are those of the
environment that runs this. With `export` a model is compiled, with `cpu` it is run, by itself it is
looked at, and `maskrt demo` says in one sentence where its weights are. `--python` does the last
two with another interpreter, and what pip takes for it today; `export` would be PyTorch once more.

What remains for a person is printed at the end.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import wheel_contents

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 2_000_000
LOCK = ROOT / "requirements" / "dev.txt"
PICTURE = ROOT / "docs" / "scenes.png"
MODEL = ("maskrt:maskrcnn_scenes", "--input-size", "128", "128", "--target", "cpu")
WEIGHTS = ROOT / "maskrt" / "demo" / "maskrcnn_scenes.safetensors"
FOR_A_PERSON = """\
For a person, in this order:
  1. CHANGELOG.md: the heading of this version has the day in place of "unreleased".
  2. CITATION.cff: date-released is that day.
  3. CI is green for this commit, and docs/hardware.md says what has run on which device.
  4. git tag -s v{version} and push the tag.
  5. twine upload of the two files in {folder}.
  6. pip install maskrt=={version} in a new environment, and maskrt targets.
  7. The next version in pyproject.toml, CITATION.cff and a new heading in CHANGELOG.md."""


class CheckError(Exception):
    """A check did not hold; its text says which."""


def main() -> int:
    """Run every check; exit 1 at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", type=Path, required=True, help="environment with twine")
    parser.add_argument("--python", action="append", default=[], help="another interpreter")
    options = parser.parse_args()
    folder = ROOT / "build" / "release-files"
    version = _version()
    with tempfile.TemporaryDirectory() as name:
        away = Path(name)
        checks: list[tuple[str, Callable[[], object]]] = [
            ("one version everywhere", lambda: check_version(version)),
            ("CITATION.cff", lambda: check_citation(ROOT / "CITATION.cff", away / "cff")),
            ("wheel and sdist are built", lambda: build(folder)),
            ("what the wheel holds", lambda: check_contents(_wheel(folder))),
            ("sizes", lambda: check_sizes(folder)),
            ("twine check", lambda: twine(options.tools, folder)),
            ("the sdist gives the same wheel", lambda: check_sdist(folder, away / "again")),
            ("with export: compile", lambda: check_export(_wheel(folder), away)),
        ]
        for python in (sys.executable, *options.python):
            name = Path(python).name
            checks += [
                (f"with cpu: run, {name}", lambda p=python: check_cpu(_wheel(folder), away, p)),
                (f"by itself, {name}", lambda p=python: check_base(_wheel(folder), away, p)),
            ]
        for title, check in checks:
            started = time.perf_counter()
            try:
                said = check()
            except CheckError as failure:
                print(f"FAILED  {title}: {failure}")
                return 1
            print(f"ok      {title}{f': {said}' if said else ''} ({_since(started)})", flush=True)
    print(FOR_A_PERSON.format(version=version, folder=folder.relative_to(ROOT)))
    return 0


def check_version(version: str) -> str:
    """Changelog and citation know the version of pyproject.toml."""
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if heading is None or heading[1] != version:
        raise CheckError(f"the first heading of CHANGELOG.md is not of {version}")
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    if cited is None or cited[1] != version:
        raise CheckError(f"CITATION.cff is not of {version}")
    return version


def check_citation(file: Path, schemas: Path) -> str:
    """Validate against the schema of CFF's authors, which cffconvert brings with it."""
    import json

    import jsonschema
    import yaml

    _run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", schemas,
        "cffconvert==2.0.0",
    )  # fmt: skip
    citation = yaml.load(file.read_text(), Loader=yaml.BaseLoader)  # the schema wants text
    (schema,) = schemas.glob(f"cffconvert/schemas/{citation['cff-version']}/schema.json")
    try:
        jsonschema.validate(citation, json.loads(schema.read_text()))
    except jsonschema.ValidationError as error:
        raise CheckError(error.message) from None
    return f"valid {citation['cff-version']}"


def build(folder: Path) -> str:
    """Build both into an emptied folder; nothing of an earlier build is left to be packed."""
    import shutil

    for old in (folder, ROOT / "build" / "lib", *(ROOT / "build").glob("bdist.*")):
        shutil.rmtree(old, ignore_errors=True)
    _run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
    return ", ".join(sorted(file.name for file in folder.iterdir()))


def check_contents(wheel: Path) -> str:
    """Every module of the tree is in the wheel, and nothing else."""
    wanted, present = wheel_contents.expected(), wheel_contents.found(str(wheel))
    if wanted != present:
        raise CheckError(f"these differ between wheel and tree: {sorted(wanted ^ present)}")
    return f"{len(present)} files"


def check_sizes(folder: Path) -> str:
    """Each file is under the limit."""
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    for name, size in sizes.items():
        if size >= LIMIT:
            raise CheckError(f"{name} has {size} bytes, and {LIMIT} is the limit")
    return ", ".join(f"{size / 1e6:.2f} MB" for size in sizes.values())


def twine(tools: Path, folder: Path) -> None:
    """Metadata and the README are what an index takes."""
    _run(tools / "bin" / "python", "-m", "twine", "check", "--strict", *folder.iterdir())


def check_sdist(folder: Path, away: Path) -> None:
    """A wheel built from the sdist, away from the clone, has the same files, byte for byte."""
    (sdist,) = folder.glob("*.tar.gz")
    _run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", away, sdist,
    )  # fmt: skip
    if _contents(one(away, "*.whl")) != _contents(_wheel(folder)):
        raise CheckError("the wheel that the sdist gives is another one")


def check_export(wheel: Path, away: Path) -> None:
    """Compile a model with the wheel, and packages that are here already."""
    python = _environment(away / "export", sys.executable, beside=True)
    _pip(python, "install", "--no-deps", "--force-reinstall", wheel)
    _satisfied(python, f"{wheel}[export]")
    _maskrt(
        python, away, "compile", *MODEL, "--weights", WEIGHTS, "-o", away / "scenes.maskrt",
    )  # fmt: skip


def check_cpu(wheel: Path, away: Path, interpreter: str) -> str:
    """Run what `check_export` compiled where there is no PyTorch."""
    python = _environment(away / f"cpu-{Path(interpreter).name}", interpreter)
    _install(python, f"{wheel}[cpu]", locked=interpreter == sys.executable)
    if _installed(python) & {"torch", "torchvision", "tensorrt-rtx"}:
        raise CheckError("the extra cpu brings more than it should")
    said = _maskrt(
        python, away, "run", away / "scenes.maskrt", PICTURE, "-o", away / "out", "--min-score", "0"
    )
    found = re.search(r"(\d+) instances", said)
    if found is None or int(found[1]) == 0:
        raise CheckError(f"the engine found nothing: {said}")
    return f"{found[1]} instances, Python {_python_version(python)}"


def check_base(wheel: Path, away: Path, interpreter: str) -> str:
    """What needs numpy, onnx and pillow alone; and the demo's one sentence."""
    python = _environment(away / f"base-{Path(interpreter).name}", interpreter)
    _install(python, str(wheel), locked=interpreter == sys.executable)
    said = _maskrt(python, away, "inspect", away / "scenes.maskrt")
    if "maskrcnn" not in said.lower():
        raise CheckError(f"inspect says {said[:300]}")
    _maskrt(python, away, "targets")
    demo = _call(python, "-m", "maskrt", "demo", "-o", away / "demo.maskrt", cwd=away)
    sentence = " ".join((demo.stdout + demo.stderr).split())
    if demo.returncode != 1 or "clone the repository" not in sentence or "Traceback" in sentence:
        raise CheckError(f"maskrt demo exits {demo.returncode} and says {sentence[:300]}")
    return f"Python {_python_version(python)}"


def one(folder: Path, pattern: str) -> Path:
    """Return the one file of a pattern."""
    (found,) = folder.glob(pattern)
    return found


def _wheel(folder: Path) -> Path:
    return one(folder, "*.whl")


def _version() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _python_version(python: Path) -> str:
    return _run(python, "-V").split()[1]


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {n: archive.read(n) for n in archive.namelist() if ".dist-info/" not in n}


def _environment(folder: Path, interpreter: str, *, beside: bool = False) -> Path:
    """Make an environment without pip, and return its Python; `beside` shows it our packages."""
    _run(interpreter, "-m", "venv", "--without-pip", folder)
    if beside:
        own = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        place = folder / "lib" / own / "site-packages" / "beside.pth"
        place.write_text("\n".join(p for p in sys.path if p.endswith("site-packages")) + "\n")
    return folder / "bin" / "python"


def _install(python: Path, what: str, *, locked: bool = True) -> None:
    """Install with pip; `locked` holds what it brings to the versions of the developers' lock."""
    given: list[str | Path] = []
    if locked:
        text = LOCK.read_text(encoding="utf-8")
        pins = re.findall(r"^[a-z0-9.-]+==[^\s;\\]+(?: ; [^\\\n]+)?", text, re.MULTILINE)
        file = python.parent / "constraints.txt"
        file.write_text("\n".join(pins) + "\n")
        given = ["--constraint", file]
    _pip(python, "install", *given, what)


def _satisfied(python: Path, what: str) -> None:
    """Refuse if pip would install anything for it."""
    said = _pip(python, "install", "--dry-run", what)
    more = re.findall(r"^Would install (.+)$", said, re.MULTILINE)
    if any(not word.startswith("maskrt-") for line in more for word in line.split()):
        raise CheckError(f"the lock lacks {more}")


def _installed(python: Path) -> set[str]:
    said = _pip(python, "list", "--format", "freeze")
    return {line.partition("==")[0].lower().replace("_", "-") for line in said.splitlines()}


def _pip(python: Path, *words: object) -> str:
    """Let this environment's pip work on another one."""
    quiet = () if "--dry-run" in words else ("--quiet",)
    return _run(sys.executable, "-m", "pip", "--python", python, *words, *quiet)


def _maskrt(python: Path, away: Path, *words: object) -> str:
    return _run(python, "-m", "maskrt", *words, cwd=away)


def _run(*words: object, cwd: Path | None = None) -> str:
    done = _call(*words, cwd=cwd)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise CheckError(f"{' '.join(map(str, words))} exits {done.returncode}: {said}")
    return done.stdout


def _call(*words: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(w) for w in words], cwd=cwd, capture_output=True, text=True)


def _since(started: float) -> str:
    return f"{time.perf_counter() - started:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
