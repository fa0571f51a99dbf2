"""A bundle of a stranger names code: it is not imported, whatever lies under that name."""

import json
import shutil
from pathlib import Path

import pytest

import maskrt
from maskrt.core import Bundle, UsageError

from .command_line import MODEL, check, run

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

_EVIL = "from pathlib import Path\nPath({mark!r}).write_text('ran')\ndef factory(): return None\n"


@pytest.fixture
def stranger(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a bundle that holds code of its own and names it, and the working directory."""
    folder = tmp_path / "received"
    shutil.copytree(work / "pictures", folder / "pictures")
    for name in ("tiny.pth", "annotations.json"):
        shutil.copy(work / name, folder / name)
    shutil.copytree(work / "tiny.maskrt", folder / "bundle")  # a name that can be imported
    (folder / "bundle" / "model.py").write_text(_EVIL.format(mark=str(tmp_path / "mark")))
    file = folder / "bundle" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["source"]["model"] = "bundle.model:factory"
    file.write_text(json.dumps(manifest))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["check", "--target", "cpu", "--images", "pictures", "--annotations", "annotations.json"],
        ["check", "--store-reference", "--images", "pictures", "--annotations", "annotations.json"],
        ["check", "--explain", "--images", "pictures", "--annotations", "annotations.json"],
        ["bench", "--runs", "1"],
    ],
)
def test_no_verb_imports_what_a_manifest_names(
    stranger: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *rest = words
    assert run(verb, "bundle", *rest, "--weights", "tiny.pth") == 2
    error = capsys.readouterr().err
    assert "bundle.model:factory" in error
    assert "--model" in error
    assert not (tmp_path / "mark").exists()


def test_the_functions_refuse_as_the_verbs_do(stranger: Path, tmp_path: Path) -> None:
    bundle = stranger / "bundle"
    data = {"images": stranger / "pictures", "annotations": stranger / "annotations.json"}
    with pytest.raises(UsageError, match="name it yourself"):
        maskrt.check(bundle, **data, weights=stranger / "tiny.pth")
    with pytest.raises(UsageError, match="name it yourself"):
        maskrt.bench(bundle, weights=stranger / "tiny.pth", runs=1)
    assert not (tmp_path / "mark").exists()


def test_what_the_user_names_is_taken_and_the_bundles_words_are_not(
    stranger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "bundle", "--runs", 1, "--weights", "tiny.pth"]
    assert run(*words, *MODEL) == 0
    assert "PyTorch total" in capsys.readouterr().out
    assert not (tmp_path / "mark").exists()
    assert run(*words, "--model", "bundle.model:factory") != 0  # the user's word: it is imported
    assert (tmp_path / "mark").exists()


def test_a_model_without_weights_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(work, *MODEL) == 2
    assert "says nothing without the weights" in capsys.readouterr().err
    with pytest.raises(UsageError, match="says nothing"):
        maskrt.bench(Bundle.open(work / "tiny.maskrt"), model=MODEL[1])
