"""The Dockerfiles: linted, and what they name is there: sources, extras, a Jetson's packages."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from maskrt.core import Target
from maskrt.kit import places_of

from .painted import ROOT

FOLDER = ROOT / "examples" / "docker"
FILES = sorted(FOLDER.glob("*.Dockerfile"))
HADOLINT = ROOT / "build" / "examples" / "bin" / "hadolint"
INSTRUCTION = re.compile(r"(ARG|FROM|COPY|RUN|WORKDIR|USER|ENTRYPOINT|CMD) (.+)")


def _instructions(file: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, each with its words; continued lines are joined."""
    text = re.sub(r"^#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            read = INSTRUCTION.fullmatch(line.strip())
            assert read, line
            found.append((read[1], read[2]))
    return found


def _lint(file: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(HADOLINT), "--no-color", str(file)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_two_stages_of_which_the_last_is_no_root(file: Path) -> None:
    found = _instructions(file)
    assert [words.split()[0].count("{") for name, words in found if name == "FROM"] == [1, 1]
    assert [words for name, words in found if name == "USER"] == ["1000"]
    assert found[-2] == ("ENTRYPOINT", '["maskrt"]')
    made = " ".join(words for name, words in found if name == "RUN")
    assert "--no-cache-dir" in made
    assert "apt-get" not in made


def test_the_extras_are_those_of_the_package() -> None:
    tomllib: Any = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (FOLDER / "x86_64.Dockerfile").read_text()
    named = {name for words in re.findall(r"EXTRAS=([\w,]+)", text) for name in words.split(",")}
    assert {"cpu", "video", "rtx"} <= named <= set(project["optional-dependencies"])
    (version,) = re.findall(r"ARG PYTHON=(\S+)", text)
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


def test_a_jetson_gets_the_packages_of_a_kit() -> None:
    (install,) = [
        words for name, words in _instructions(FOLDER / "l4t.Dockerfile")
        if name == "RUN" and "numpy" in words
    ]  # fmt: skip
    command = shlex.split(install.split("&&")[0])
    packages = {word for word in command[4:] if not word.startswith(("-", "/wheel"))}
    place = places_of(Target.parse("orin-nx"))[0]
    assert place.python == "3.10"
    assert packages == set(place.packages)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_context_is_what_a_wheel_is_made_of(file: Path) -> None:
    """Nothing of what the sdist holds is kept out, and neither tests nor builds come in."""
    rules = file.with_name(f"{file.name}.dockerignore").read_text().splitlines()
    assert rules[0] == "**"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert all((ROOT / name).exists() for name in let_in)
    packages = {"core", "export", "calib", "plugins", "runtime", "maskrt"}
    named = set(re.findall(r"^include (.+)$", (ROOT / "MANIFEST.in").read_text(), re.MULTILINE))
    metadata = {"pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"}
    assert let_in == packages | metadata | {name for line in named for name in line.split()}


@pytest.mark.slow
@pytest.mark.skipif(not HADOLINT.exists(), reason="no hadolint: run make build/examples/.made")
class TestHadolint:
    @pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
    def test_it_finds_nothing(self, file: Path) -> None:
        done = _lint(file)
        assert (done.returncode, done.stdout) == (0, "")

    def test_it_finds_what_is_wrong(self, tmp_path: Path) -> None:
        wrong = tmp_path / "Dockerfile"
        wrong.write_text(
            (FOLDER / "x86_64.Dockerfile").read_text().replace("WORKDIR /source", "RUN cd /source")
        )
        done = _lint(wrong)
        assert done.returncode == 1
        assert "DL3003" in done.stdout
