"""Two programs change one bundle at a time: what goes together is kept, the rest is refused."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskrt.core import Bundle, BundleError, folders

from .bundles import make

Change = Callable[[Bundle], Any]


def _during(bundle: Bundle, theirs: Change, ours: Change) -> Bundle:
    """Make our change, while another program begins and ends its own; returns the bundle."""
    with bundle.edit() as slow:
        with Bundle.open(bundle.path).edit() as fast:
            theirs(fast)
        ours(slow)
    return Bundle.open(bundle.path)


def _build(name: str, content: bytes) -> Change:
    def change(staged: Bundle) -> None:
        staged.remove("report/")
        staged.remove(f"engines/{name}/")
        staged.write(f"engines/{name}/engine.json", content)

    return change


def _calibrate(staged: Bundle) -> None:
    for prefix in ("engines/", "report/"):
        staged.remove(prefix)
    staged.write("recipe.json", b"recipe")


def _report(staged: Bundle) -> None:
    staged.write("report/report.json", b"report")


def test_two_builds_at_once_are_both_kept(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a.maskrt")
    again = _during(bundle, _build("orin", b"{}"), _build("cpu", b"[]"))
    assert again.engines() == ["cpu", "orin", "rtx@fp16"]
    assert again.read("engines/cpu/engine.json") == b"[]"
    assert bundle.digests == again.digests
    assert [p.name for p in tmp_path.iterdir()] == ["a.maskrt"]
    with bundle.edit() as staged:  # and it goes on from there
        staged.remove("engines/orin/")
    assert Bundle.open(bundle.path).engines() == ["cpu", "rtx@fp16"]


def test_an_edit_begins_with_what_another_program_did_since_it_was_opened(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a.maskrt")
    with Bundle.open(bundle.path).edit() as other:
        _build("orin", b"{}")(other)
        other.remove("engines/cpu/")
    with bundle.edit() as staged:
        assert staged.engines() == ["orin", "rtx@fp16"]
        _report(staged)
    assert Bundle.open(bundle.path).engines() == ["orin", "rtx@fp16"]
    assert "report/report.json" in bundle


def test_what_goes_stale_is_not_taken_over(tmp_path: Path) -> None:
    """A calibration drops engines that were built meanwhile by the old recipe, a build reports."""
    again = _during(make(tmp_path / "a.maskrt"), _build("orin", b"{}"), _calibrate)
    assert again.engines() == []
    assert again.read("recipe.json") == b"recipe"
    again = _during(make(tmp_path / "b.maskrt"), _report, _build("orin", b"{}"))
    assert again.engines() == ["cpu", "orin", "rtx@fp16"]
    assert "report/report.json" not in again


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (_build("cpu", b"1"), _build("cpu", b"2")),  # both wrote one file
        (_calibrate, _build("cpu", b"2")),  # built from another recipe
        (_calibrate, _report),
        (lambda b: b.write("model.onnx", b"other"), _report),
        (_build("orin", b"1"), lambda b: b.write("recipe.json", b"slow")),
        (_build("orin", b"1"), lambda b: b.update(fidelity={"worst": 1})),
        (lambda b: b.update(fidelity={"worst": 1}), _report),
    ],
)
def test_of_two_changes_that_do_not_go_together_the_later_is_refused(
    tmp_path: Path, theirs: Change, ours: Change
) -> None:
    bundle, alone = make(tmp_path / "a.maskrt"), make(tmp_path / "alone.maskrt")
    with alone.edit() as staged:
        theirs(staged)
    with pytest.raises(BundleError, match="was changed by another program meanwhile"):
        _during(bundle, theirs, ours)
    again = Bundle.open(bundle.path)
    assert again.digests == alone.digests
    assert again.manifest == Bundle.open(alone.path).manifest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.maskrt", "alone.maskrt"]


def test_a_bundle_that_is_gone_is_not_edited(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a.maskrt")
    shutil.rmtree(bundle.path)
    with pytest.raises(BundleError, match="was changed by another"), bundle.edit():
        pass


@pytest.mark.parametrize("exchanges", [True, False])
def test_an_edit_between_the_check_and_the_rename_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    bundle = make(tmp_path / "a.maskrt")
    exchange = folders.exchange

    def change_first(one: Path, other: Path) -> bool:
        monkeypatch.setattr(folders, "exchange", exchange if exchanges else lambda *_: False)
        with Bundle.open(bundle.path).edit() as faster:
            faster.write("model.onnx", b"other")
        return exchanges and exchange(one, other)

    monkeypatch.setattr(folders, "exchange", change_first)
    monkeypatch.setattr(folders, "only_one", lambda _: contextlib.nullcontext())  # no locks there
    with (
        pytest.raises(BundleError, match="was changed by another program meanwhile"),
        bundle.edit() as staged,
    ):
        staged.write("model.onnx", b"lost")
    assert Bundle.open(bundle.path).read("model.onnx") == b"other"
    assert [p.name for p in tmp_path.iterdir()] == ["a.maskrt"]
