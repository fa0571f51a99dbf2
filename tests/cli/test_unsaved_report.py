"""A finished measurement is shown and judged, whatever becomes of the bundle meanwhile."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import maskrt
from maskrt.checking import accuracy
from maskrt.core import Bundle

from .command_line import check, run

pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.fixture
def copy(work: Path, tmp_path: Path) -> Path:
    """The folder `work` with a bundle that this test may change."""
    shutil.copytree(work / "tiny.maskrt", tmp_path / "tiny.maskrt")
    for name in ("pictures", "annotations.json"):
        (tmp_path / name).symlink_to(work / name)
    return tmp_path


def _meanwhile(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Make a change of another program's at the end of the measurement."""
    render = accuracy.render_html

    def changed(*arguments: Any) -> str:
        change()
        return render(*arguments)

    monkeypatch.setattr(accuracy, "render_html", changed)


def test_another_target_that_is_built_meanwhile_is_kept(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build() -> None:
        with Bundle.open(copy / "tiny.maskrt").edit() as staged:
            staged.write("engines/orin/engine.json", {"bytes": 1})

    _meanwhile(monkeypatch, build)
    assert check(copy) == 0
    bundle = Bundle.open(copy / "tiny.maskrt")
    assert "report/report.html" in bundle
    assert "orin" in bundle.engines()


def test_an_engine_that_is_replaced_meanwhile_does_not_get_the_report(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rebuild() -> None:
        with Bundle.open(copy / "tiny.maskrt").edit() as staged:
            staged.remove("report/")
            staged.write("engines/cpu/engine.onnx", b"another")

    _meanwhile(monkeypatch, rebuild)
    files = [copy / name for name in ("out/r.json", "out/r.html", "out/r.xml")]
    words = (
        word for pair in zip(("--json", "--html", "--junit"), files, strict=True) for word in pair
    )
    assert check(copy, *words, "--max-ap-drop", 100) == 0
    shown = capsys.readouterr().out
    assert "the report is not in the bundle: engines/cpu of the bundle was built anew" in shown
    assert "passed" in shown
    assert json.loads(files[0].read_text())["passed"] is True
    assert "<html" in files[1].read_text()
    assert files[2].read_text().startswith("<?xml")
    assert "report/report.json" not in Bundle.open(copy / "tiny.maskrt")
    monkeypatch.undo()


def test_a_budget_is_enforced_and_python_warns_too(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _meanwhile(monkeypatch, lambda: shutil.rmtree(copy / "tiny.maskrt"))
    with pytest.warns(UserWarning, match="the report is not in the bundle: .* was changed by"):
        report = maskrt.check(
            copy / "tiny.maskrt", images=copy / "pictures", annotations=copy / "annotations.json"
        )
    assert report.metrics["box"]["AP"] is not None


def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--json", "--html", "--junit"):
        assert check(copy, option, copy / "annotations.json" / "report") == 2
        shown = capsys.readouterr()
        assert "annotations.json is no folder that you may write to" in shown.err
        assert "pictures" not in shown.out
    assert run("bench", copy / "tiny.maskrt", "--plot", copy / "annotations.json" / "b.svg") == 2


def test_a_compiled_budget_says_what_was_measured(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(copy, "--max-ap-drop", 100) == 0
    assert run("inspect", copy / "tiny.maskrt") == 0
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("  accuracy")]
    line = next(x for x in lines if x.endswith("; report/report.html"))  # the newest
    assert "against canonical FP32" in line
    assert "on 3 pictures, inside the budget of 100; report/report.html" in line


def test_an_engine_that_is_removed_meanwhile_costs_nothing_of_the_report(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = Bundle.open(copy / "tiny.maskrt").read_json("engines/cpu/engine.json")["bytes"]
    run_here = accuracy.run_here

    def removed(*arguments: Any, **how: Any) -> Any:
        ran = run_here(*arguments, **how)
        with Bundle.open(copy / "tiny.maskrt").edit() as staged:
            staged.remove("engines/")
        return ran

    monkeypatch.setattr("maskrt.measurement.run_here", removed)
    assert check(copy, "--json", copy / "r.json") == 0
    shown = capsys.readouterr().out
    assert "the report is not in the bundle: engines/cpu of the bundle was built anew" in shown
    report = json.loads((copy / "r.json").read_text())
    assert report["engine"]["bytes"] == size
    assert report["metrics"]["box"]["AP"] is not None
