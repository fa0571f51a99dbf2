"""The page of the examples has all of them, and its commands are those of their heads."""

import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from .painted import ROOT, example

FOLDER = ROOT / "examples"
PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
PROGRAMS = ("camera_loop.py", "count_crossings.py", "triton_client.py")


def _commands(text: str) -> list[str]:
    return [line.strip() for line in re.findall(r"^    (\S.*)$", text, re.MULTILINE)]


def test_every_example_is_linked() -> None:
    linked = {Path(name).parts[0] for name in re.findall(r"\]\(\.\./examples/([^)]+)\)", PAGE)}
    there = {entry.name for entry in FOLDER.iterdir() if not entry.name.startswith((".", "__"))}
    assert linked == there - {"scenes"}
    assert "`examples/scenes/`" in PAGE


def test_a_command_of_the_page_is_the_one_of_the_head() -> None:
    heads = "".join(
        file.read_text(encoding="utf-8")
        for pattern in ("*.py", "cpp/*", "docker/*file", "ros2/*.md")
        for file in FOLDER.glob(pattern)
    )
    known = " ".join(re.sub(r"^(//|#)|  #.*|\\$", "", line).strip() for line in heads.splitlines())
    for command in _commands(PAGE):
        if "jupyter" in command or "notebook" in command:
            continue
        first = command.split(" -r ")[0].split(" -p target")[0]
        assert first in known or _verb(first), command


def _verb(command: str) -> bool:
    """Whether it is a command of maskrt's that its parser takes."""
    words = shlex.split(command)
    if words[0] != "maskrt":
        return False
    from maskrt.cli import package

    package.command.make_context("package", words[2:])
    return words[1] == "package"


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_takes_the_words_of_the_page(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets as far as asking for the bundle or the server."""
    import maskrt

    class ReachedError(Exception):
        pass

    def reaching(function: Any) -> Any:
        signature = inspect.signature(function)

        def reached(*given: Any, **named: Any) -> None:
            signature.bind(*given, **named)
            raise ReachedError

        return reached

    module = example(name)
    monkeypatch.setattr(maskrt, "load", reaching(maskrt.load), raising=False)
    monkeypatch.setattr(maskrt, "run", reaching(maskrt.run), raising=False)
    if hasattr(module, "TritonModel"):
        monkeypatch.setattr(module, "TritonModel", reaching(module.TritonModel))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    lines = [line for line in _commands(PAGE) if f"examples/{name}" in line]
    assert lines
    for line in lines:
        monkeypatch.setattr("sys.argv", shlex.split(line.replace('"$C"', "camera:0"))[1:])
        with pytest.raises(ReachedError):
            module.main()
