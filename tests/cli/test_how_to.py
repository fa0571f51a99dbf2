"""The how-tos: their commands run, and what they quote of maskrt is what maskrt says."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrt.core import Bundle, Precision, PrecisionError, Target
from maskrt.core.errors import UnsupportedTargetError
from maskrt.runtime import Session

from ..documents import ROOT, run_document
from .command_line import check, run

PAGES = ROOT / "docs" / "how_to"
pytestmark = [pytest.mark.torch]


def _quoted(page: str) -> list[str]:
    """Return what stands in a page's quotations, a paragraph each."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    found = re.findall(r"(?:^> .*\n)+", text, re.MULTILINE)
    return [" ".join(line[2:] for line in part.splitlines()) for part in found]


def _same(quoted: str, said: str) -> bool:
    """Compare but for numbers, the bundle's name, and which of box and mask AP lost more."""
    said = re.sub(r"\S*?(\w+)\.maskrt", "street.maskrt", said)
    return _bare(quoted) == _bare(said)


def _bare(sentence: str) -> str:
    return re.sub(r"[\d.]*\d", "0", re.sub(r"\b(box|mask) AP", "one AP", sentence))


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1].removeprefix("error: ")


def _reference_of_ap_0(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    copy = shutil.copytree(work, tmp_path / "work")
    text = (copy / "annotations.json").read_text()
    away = re.sub(r'"bbox": \[[^\]]+\]', '"bbox": [0, 0, 1, 1]', text)
    (copy / "annotations.json").write_text(away)
    assert check(copy, "--max-ap-drop", 1) == 1
    return _error(capsys)


def _engine_that_finds_nothing(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    from maskrt.checking import conversion
    from maskrt.runtime.backends.null import NullBackend

    bundle = Bundle.open(work / "tiny.maskrt")

    def blind(opened: Bundle, *asked: Any) -> Session:
        return Session(NullBackend(opened.manifest.outputs), opened.manifest.input)

    monkeypatch.setattr(conversion, "open_session", blind)
    pictures = [*(work / "pictures").iterdir()]
    with pytest.raises(PrecisionError) as refused:
        conversion.refuse_blind_engine(bundle, Target.parse("cpu"), Precision.FP16, pictures)
    return str(refused.value)


def _missed_budget(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    copy = shutil.copytree(work, tmp_path / "work")
    (copy / "dark").mkdir()
    for place in range(2):
        noise = np.random.default_rng(place).integers(0, 3, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).save(copy / "dark" / f"{place}.png")
    assert run("calibrate", copy / "tiny.maskrt", "--calibration", copy / "dark") == 0
    assert run("build", copy / "tiny.maskrt", "--target", "cpu") == 0
    assert check(copy, "--max-ap-drop", 0.01) == 1
    return _error(capsys)


def _engine_of_another_version(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    from maskrt.runtime.backends.fits import check_version

    bundle = Bundle.open(work / "tiny.maskrt")
    told = {"backend_version": "1.6.0"}
    with pytest.raises(UnsupportedTargetError) as refused:
        check_version(bundle, Target.parse("rtx"), None, told, "1.7.1.116")
    return str(refused.value)


def _file_changed_by_hand(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    copy = shutil.copytree(work / "tiny.maskrt", tmp_path / "tiny.maskrt")
    info = copy / "engines" / "cpu" / "engine.json"
    info.write_text(info.read_text().replace('"precision": "int8"', '"precision": "fp32"', 1))
    assert run("run", copy, work / "pictures", "-o", tmp_path / "out") == 1
    return _error(capsys).replace(f"{copy}/", "")


def _inlined(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.chdir(tmp_path)
    assert run("export", work / "tiny.maskrt", "--inlined", "street.onnx") == 0
    return capsys.readouterr().out.splitlines()[-1]


Provoke = Callable[
    [Path, Path, pytest.CaptureFixture[str], pytest.MonkeyPatch], str
]  # (bundle's folder, an empty one, …) → what maskrt said
SAID: list[tuple[str, int, Provoke]] = [
    ("nothing_detected", 0, _reference_of_ap_0),
    ("nothing_detected", 1, _engine_that_finds_nothing),
    ("int8_collapse", 0, _missed_budget),
    ("engine_of_another_version", 0, _engine_of_another_version),
    ("engine_of_another_version", 1, _file_changed_by_hand),
    ("plugin_not_found", 0, _inlined),
]


@pytest.mark.parametrize(("page", "place", "provoke"), SAID)
def test_what_a_page_quotes_is_what_maskrt_says(
    page: str, place: int, provoke: Provoke, work: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    said = provoke(work, tmp_path, capsys, monkeypatch)
    assert _same(_quoted(page)[place], said), said


def test_another_sentence_would_be_seen() -> None:
    assert not _same("it drops by 1.0: choose another", "it drops by 2.5: take another")
    assert _same("it drops by 1.0: choose another", "it drops by 2.55: choose another")


@pytest.fixture
def street(work: Path, tmp_path: Path) -> Path:
    """A folder with the names that the pages use."""
    shutil.copytree(work / "tiny.maskrt", tmp_path / "street.maskrt")
    for name in ("pictures", "val"):
        shutil.copytree(work / "pictures", tmp_path / name)
    shutil.copy(work / "annotations.json", tmp_path / "val.json")
    first = min((tmp_path / "val").iterdir())
    Image.open(first).convert("RGB").save(tmp_path / "street.jpg")
    return tmp_path


@pytest.mark.slow
@pytest.mark.rtx
@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_the_commands_of_a_how_to_run(page: Path, street: Path) -> None:
    stand_ins = {" --max-ap-drop 1.0": ""} if page.stem == "int8_collapse" else None
    run_document(page, street, stand_ins)


def test_the_index_has_every_page() -> None:
    text = (PAGES / "index.md").read_text(encoding="utf-8")
    assert {page.name for page in PAGES.glob("*.md")} - {"index.md"} == set(
        re.findall(r"\]\((\w+\.md)\)", text)
    )
