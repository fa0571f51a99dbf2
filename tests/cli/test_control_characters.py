"""Names of a stranger's bundle on a terminal: control characters are written out, not obeyed."""

import json
import shutil
from pathlib import Path

import pytest

from maskrt.cli.options import console
from maskrt.core import Bundle
from maskrt.core.words import for_terminal

from .command_line import check, run

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

NAME = "ball\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
WRITTEN = "ball\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202e"
_OBEYED = set(map(chr, (*range(9), *range(11, 32), *range(127, 160)))) | {"\u202e"}


@pytest.fixture
def steering(work: Path, tmp_path: Path) -> Path:
    """A folder whose bundle has such characters in every text that it can."""
    for name in ("annotations.json", "tiny.pth"):
        shutil.copy(work / name, tmp_path / name)
    shutil.copytree(work / "pictures", tmp_path / "pictures")
    shutil.copytree(work / "tiny.maskrt", tmp_path / "tiny.maskrt")
    file = tmp_path / "tiny.maskrt" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["class_names"] = ["background", *(f"{NAME}{i}" for i in range(4))]
    manifest["source"] |= {"model": f"a:{NAME}", "warning": NAME}
    manifest["source"]["weights"] |= {"file": NAME, "part": NAME}
    manifest["fidelity"]["note"] = NAME
    file.write_text(json.dumps(manifest))
    with Bundle.open(tmp_path / "tiny.maskrt").edit() as staged:  # so that its engine still fits it
        info = staged.read_json("engines/cpu/engine.json")
        info["sha256"]["interface"] = staged.manifest.interface_digest
        staged.write("engines/cpu/engine.json", info)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [["inspect"], ["doctor"], ["recipe"], ["run", "pictures", "-o", "out"], ["check"],
     ["bench", "--runs", "1", "--weights", "tiny.pth"]],
)  # fmt: skip
def test_no_verb_prints_them(
    steering: Path, words: list[str], capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(steering)
    verb, *rest = words
    if verb == "check":
        check(steering, "--target", "cpu")
    else:
        run(verb, "tiny.maskrt", *rest)
    printed = "".join(capfd.readouterr())
    assert printed
    assert not _OBEYED & set(printed)
    if verb in ("inspect", "bench"):
        assert WRITTEN.split("]")[0] in printed


def test_a_family_that_is_no_family_of_ours(
    steering: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = steering / "tiny.maskrt" / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "mask_paste": NAME}))
    for words in (["inspect"], ["inspect", "--debug"]):
        assert run(*words, steering / "tiny.maskrt") == 1
        assert not _OBEYED & set(capfd.readouterr().err)


def test_a_table_is_cleaned_and_colours_stay(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table(title=NAME)
    table.add_column(NAME)
    table.add_row(NAME)
    screen = console()
    screen.print(table)
    screen.print(NAME)
    printed = capsys.readouterr().out
    assert not _OBEYED & set(printed)
    assert printed.count(WRITTEN) == 4


def test_words_of_every_language_stay() -> None:
    text = "Straße\u00a0日本 naïve\u3000\tü\n🏐"
    assert for_terminal(text) == text
    assert for_terminal("\udcff") == "\\udcff"
