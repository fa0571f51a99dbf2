"""Commands are printed as a shell takes them, counts with their noun, paths as they were given."""

import shlex
import sys
from pathlib import Path

import pytest

from maskrt.core import MissingDependencyError, command, counted, lazy, require, suggestion
from maskrt.core.folders import asked_for, staging
from maskrt.core.words import lines_of


@pytest.mark.parametrize("path", ["so lo.maskrt", "it's.maskrt", "$HOME.maskrt", "plain.maskrt"])
def test_a_command_is_read_back_by_a_shell(path: str) -> None:
    words = ["maskrt", "build", Path(path), "--target", "cpu"]
    assert shlex.split(command(*words)) == ["maskrt", "build", path, "--target", "cpu"]


def test_counts() -> None:
    assert [counted(n, "layer") for n in (0, 1, 2)] == ["0 layers", "1 layer", "2 layers"]


def test_what_to_write_instead_of_an_unknown_name() -> None:
    assert suggestion("orin_nx", ["cpu", "orin-nx", "orin-nano"]) == "did you mean orin-nx?"
    assert suggestion("x", ["cpu", "orin-nx"]) == "choose one of cpu, orin-nx."


def test_a_hidden_path_stands_for_the_one_that_was_asked_for(tmp_path: Path) -> None:
    with staging(tmp_path / "b.maskrt", lambda _: None) as staged:
        assert staged.name != "b.maskrt"
        assert asked_for(str(staged)) == str(tmp_path / "b.maskrt")
    for other in ("out/report.json", ".bashrc", "out/.hidden.json"):
        assert asked_for(other) == other


@pytest.mark.parametrize("jetson", [True, False])
def test_tensorrt_comes_from_jetpack_on_a_jetson_alone(
    monkeypatch: pytest.MonkeyPatch, jetson: bool
) -> None:
    monkeypatch.setattr(lazy, "is_jetson", lambda: jetson)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError) as refused:
        require("tensorrt", "build engines")
    assert ("python3-libnvinfer" in str(refused.value)) == jetson
    assert ("pip install" in str(refused.value)) != jetson


def test_each_name_is_a_line_of_its_own_whatever_is_in_it() -> None:
    names = ["background", "a\nball", "a\r\x1b[2Jdisc", "a\ttab", "größe"]
    text = lines_of(names)
    assert text.count("\n") == len(names)
    assert text.splitlines()[1:4] == ["a\\nball", "a\\r\\x1b[2Jdisc", "a\\ttab"]
    assert text.endswith("größe\n")
    assert lines_of([]) == ""
