"""What lies around the code says what is so: CI, the gate for users, the lock, CONTRIBUTING."""

import re
import shlex
import string
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from maskrt.cli import check as check_verb
from maskrt.cli import compile as compile_verb

_COMMANDS: dict[str, click.Command] = {
    "compile": compile_verb.command, "check": check_verb.command,
}  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "dev.txt"
TRACKER = {"trackers"}  # its OpenCV would replace the headless one: locked with the examples
YAML = [
    ROOT / ".pre-commit-config.yaml",
    *sorted(p for folder in (".github", "examples") for p in (ROOT / folder).rglob("*.y*ml")),
]


def _load(file: Path) -> Any:
    return pytest.importorskip("yaml").safe_load(file.read_text(encoding="utf-8"))


def _commands(file: Path) -> list[str]:
    """Return what the jobs of a workflow run, a line each."""
    jobs = _load(file)["jobs"].values()
    return [step["run"].strip() for job in jobs for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("file", YAML, ids=lambda p: p.name)
def test_yaml_is_a_mapping_and_no_key_comes_twice(file: Path) -> None:
    yaml = pytest.importorskip("yaml")

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"{file.name}: {keys}"
            return super().construct_mapping(node, deep)

    assert isinstance(yaml.load(file.read_text(encoding="utf-8"), Strict), dict)


def test_ci_on_github_runs_ci_and_nothing_else() -> None:
    assert _commands(ROOT / ".github" / "workflows" / "ci.yml") == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_hooks_and_ci_run_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    (local,) = _load(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = [hook["entry"].removeprefix("make ") for hook in local["hooks"]]
    assert hooks == ["lint", "types", "imports"]
    run = re.findall(r"\bmake ([a-z-]+)", (ROOT / ".ci" / "run").read_text())
    assert set(hooks) <= set(run) <= targets


def test_the_gate_for_users_is_parsed_by_the_verbs_themselves() -> None:
    gate = ROOT / "examples" / "regression_gate.yml"
    given = {name: str(value) for name, value in _load(gate)["env"].items()}
    lines = [string.Template(line).substitute(given) for line in _commands(gate)]
    verbs = [shlex.split(line)[1:] for line in lines if line.startswith("maskrt ")]
    assert [words[0] for words in verbs] == ["compile", "check"]
    for verb, *words in verbs:
        context = _COMMANDS[verb].make_context(verb, words)
        assert context.params["max_ap_drop"] == float(given["MAX_AP_DROP"])
    assert context.params["junit_file"].name == "report.xml"


def _locked(file: Path) -> set[str]:
    """Return the packages of a lock, each of which has hashes; no registry stands in it."""
    text = file.read_text(encoding="utf-8")
    entries = re.findall(r"^([a-z0-9.-]+)==(\S+)(.*(?:\n    --hash=.*)+)", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE))
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links| @ ", text)
    return {name for name, _, _ in entries}


def test_the_lock_holds_every_dependency_of_a_developer_by_hash() -> None:
    wanted = {_normal(one.name) for one in _locked_dependencies()} - {"maskrt"}
    assert wanted - TRACKER <= _locked(LOCK), wanted - _locked(LOCK)


@pytest.mark.parametrize("name", ["examples", "release"])
def test_what_else_ci_installs_is_locked_and_agrees_with_the_lock_of_a_developer(name: str) -> None:
    file = LOCK.with_name(f"{name}.txt")
    asked = set(re.findall(r"^([a-z0-9-]+)", file.with_suffix(".in").read_text(), re.MULTILINE))
    assert asked <= _locked(file)
    assert _locked(LOCK.with_name("examples.txt")) >= TRACKER
    versions = [
        dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock.read_text(), re.MULTILINE))
        for lock in (LOCK, file)
    ]
    both = versions[0].keys() & versions[1].keys()
    assert {n: versions[0][n] for n in both} == {n: versions[1][n] for n in both}


def test_what_is_locked_is_inside_the_bounds() -> None:
    text = LOCK.read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE))
    for one in _locked_dependencies():
        if one.name not in ("maskrt", *TRACKER):
            assert one.specifier.contains(locked[_normal(one.name)]), one


def _pyproject() -> dict[str, Any]:
    toml = pytest.importorskip("tomllib")  # Python 3.11
    return toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _dependencies() -> list[str]:
    """Return what the package and all of its extras ask for."""
    project = _pyproject()["project"]
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(words for extra in extras for words in extra)]


def _locked_dependencies() -> list[Any]:
    """Return those of the Pythons that developers have, 3.11 and later."""
    requirements = pytest.importorskip("packaging.requirements")
    found = [requirements.Requirement(words) for words in _dependencies()]
    python = {"python_version": "3.11"}
    return [
        one
        for one in found
        if one.marker is None
        or "python_version" not in str(one.marker)
        or one.marker.evaluate(python)
    ]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.lower())


def _tables() -> dict[str, list[str]]:
    """Return the files that CONTRIBUTING lists for a family, an operator, a backend, a rule."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r"<!-- (\w+) -->\n(.*?)<!-- end -->", text, re.DOTALL)
    cells = {kind: re.findall(r"^\|([^|]*)\|", rows, re.MULTILINE) for kind, rows in found}
    return {kind: re.findall(r"`([^`]+)`", " ".join(rows)) for kind, rows in cells.items()}


def test_contributing_names_files_that_are_there() -> None:
    tables = _tables()
    assert set(tables) == {"family", "operator", "backend", "rule"}
    for kind, files in tables.items():
        assert len(files) >= 3, kind
        assert [f for f in files if not (ROOT / f).is_file()] == []
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|txt|cu|md))`", text):
        assert (ROOT / path).is_file(), path
    for path in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("family", "SOLO and SOLOv2: eager models, static graphs, training on scenes"),
        ("operator", "SoftNMS, MaskIoU, MatrixNMS; targets as data"),
        ("backend", "TensorRT engines: opened after engine.json has been asked"),
        ("rule", "Boxes narrower than a cell are widened as an aligned-outside RoiAlign does"),
    ],
)
def test_contributing_lists_files_of_that_commit(kind: str, subject: str) -> None:
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    assert subject in text
    log = subprocess.run(
        ["git", "log", "--fixed-strings", f"--grep={subject}", "--format=", "--name-only", "HEAD"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    changed = {Path(line).name for line in log.stdout.splitlines()}
    if not changed:
        pytest.skip("no history here: a shallow clone, or a folder without git")
    moved = {"bodies.py"}  # was plugins/lowering.py
    assert {Path(f).name for f in _tables()[kind]} - moved <= changed


def test_types_ship() -> None:
    """The wheel itself is looked into by tests/wheel_contents.py."""
    assert "py.typed" in _pyproject()["tool"]["setuptools"]["package-data"]["maskrt"]
    assert (ROOT / "maskrt" / "py.typed").is_file()
