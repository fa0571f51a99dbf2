"""The command line from model to report, on a detector small enough for every run."""

import json
import shutil
from pathlib import Path

import pytest

from maskrt.core import Bundle
from maskrt.runtime.check.schema import report_schema

from .command_line import check, run

pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def test_bundle_says_what_it_is(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", work / "tiny.maskrt") == 0
    shown = capsys.readouterr().out
    assert "weights tiny.pth" in shown
    assert "int8" in shown
    assert "2 maskrt::BatchedNMS" in shown


def test_check_measures_the_drop(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(work, "--json", work / "r.json", "--html", work / "r.html") == 0
    report = json.loads((work / "r.json").read_text())
    assert report["reference"]["mask"]["AP"] == pytest.approx(100, abs=0.1)
    assert report["drop"]["box"]["AP"] == pytest.approx(
        report["reference"]["box"]["AP"] - report["metrics"]["box"]["AP"]
    )
    assert "canonical FP32" in capsys.readouterr().out
    assert (work / "r.html").read_text().startswith("<!doctype html>")


def test_a_stored_reference_needs_nothing_to_run_it(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(work, "--store-reference", "--weights", work / "tiny.pth") == 0
    assert "PyTorch FP32" in capsys.readouterr().out

    def refuse(*_: object) -> None:
        raise AssertionError("the reference was run")

    monkeypatch.setattr("maskrt.checking.runs.canonical_session", refuse)
    monkeypatch.setattr("maskrt.checking.runs.pytorch_session", refuse)
    assert check(work, "--junit", work / "r.xml", "--json", work / "r.json") == 0
    assert "PyTorch FP32 (stored)" in capsys.readouterr().out
    assert (work / "r.xml").read_text().count("<testcase") == 2
    report = json.loads((work / "r.json").read_text())
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(report, report_schema())
    assert report["agreement"]["matched"] > 0
    with Bundle.open(work / "tiny.maskrt").edit() as staged:
        staged.remove("reference/")


def test_explain_adds_up_and_is_printed(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(work, "--explain", "--json", work / "r.json") == 0
    shown = capsys.readouterr().out
    assert "letterboxing and resize" in shown
    assert "suspect" in shown
    report = json.loads((work / "r.json").read_text())
    pytest.importorskip("jsonschema").validate(report, report_schema())
    found = report["attribution"]
    assert found["start"] == "canonical FP32"
    for kind, whole in found["whole"].items():
        assert sum(part["lost"][kind] for part in found["parts"]) == pytest.approx(whole)
    stages = [part["stage"] for part in found["parts"]]
    assert (stages[0], stages[-2:]) == ("letterbox", ["engine", "paste"])
    assert {layer["name"] for layer in report["divergence"]["layers"]}


def test_missed_budget_exits_1(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(work, "--max-ap-drop", "0.0001") == 1
    assert "and the budget is 0.0001" in capsys.readouterr().err
    assert check(work, "--max-ap-drop", "100") == 0


@pytest.mark.slow  # the search tries what it can
def test_missed_budget_leaves_no_bundle(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = run(
        "compile", "tests.export.detectors:tiny_mask_rcnn", "-o", work / "strict.maskrt",
        "--weights", work / "tiny.pth", "--input-size", 128, 160, "--precision", "int8",
        "--calibration", work / "pictures", "--max-ap-drop", "0.0001",
        "--images", work / "pictures", "--annotations", work / "annotations.json",
    )  # fmt: skip
    assert status == 1
    assert "No bundle was written." in capsys.readouterr().err
    assert not (work / "strict.maskrt").exists()
    assert not [p for p in work.iterdir() if p.name.startswith(".strict")]


def test_improvements_are_kept_only_where_they_raise_ap(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = work / "improved.maskrt"
    shutil.copytree(work / "tiny.maskrt", copy)
    earlier = Bundle.open(copy).read_json("recipe.json")
    assert run("calibrate", copy, "--calibration", work / "pictures", "--equalise",
               "--bias-correction", "--images", work / "pictures",
               "--annotations", work / "annotations.json") == 0  # fmt: skip
    recipe = Bundle.open(copy).read_json("recipe.json")
    found = recipe["calibration"]["improvements"]
    names = ["equalisation", "bias correction"]
    assert set(found["ap_drop"]) == {"neither", *names, " and ".join(names)}
    least = min(found["ap_drop"].values())
    assert found["ap_drop"][" and ".join(found["kept"]) or "neither"] == least
    assert ("factors" in recipe, "corrections" in recipe) == tuple(
        n in found["kept"] for n in names
    )
    if not found["kept"]:
        assert {**earlier, "calibration": recipe["calibration"]} == recipe
    shown = capsys.readouterr().out
    assert "improved  by" in shown
    assert f"{found['ap_drop']['neither']:.2f} with neither" in shown
    assert run("build", copy, "--target", "cpu") == 0
    layers = Bundle.open(copy).read_json("engines/cpu/engine.json")["layers"]
    assert layers["int8"] > 20
    shutil.rmtree(copy)


def test_pytorch_itself_as_the_reference(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("build", work / "tiny.maskrt", "--target", "cpu", "--precision", "fp32") == 0
    assert check(work, "--precision", "fp32", "--weights", work / "tiny.pth",
                 "--max-ap-drop", "0.05") == 0  # fmt: skip
    assert "PyTorch FP32" in capsys.readouterr().out
    other = work / "other.pth"
    other.write_bytes((work / "tiny.pth").read_bytes() + b" ")
    assert check(work, "--weights", other) == 1
    assert "are not the file that the bundle was compiled from" in capsys.readouterr().err
