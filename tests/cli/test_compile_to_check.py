"""The command line from model to report, on a detector small enough for every run."""

import json
import shutil
from pathlib import Path

import pytest

import maskrt
from maskrt.core import Bundle
from maskrt.runtime.check import Report
from maskrt.runtime.check.schema import report_schema

from .command_line import MODEL, check, run

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
    assert check(work, "--store-reference", "--weights", work / "tiny.pth", *MODEL) == 0
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


@pytest.mark.parametrize("target", ["rtx", "orin-nx", "cpu"])
def test_another_target_is_foretold(
    work: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an engine for it, and beside the engine for cpu."""
    assert check(work, "--as", target, "--json", work / "r.json") == 0
    shown = capsys.readouterr().out
    assert f"Foretold: the graph of an engine for {target}" in " ".join(shown.split())
    report = json.loads((work / "r.json").read_text())
    pytest.importorskip("jsonschema").validate(report, report_schema())
    assert Report.from_json(report).to_json() == report
    assert (report["target"], report["precision"]) == (target, "int8")
    assert report["reference"]["box"]["AP"] == pytest.approx(100, abs=0.1)
    found = report["foretold"]
    assert found["engine"] == "cpu"
    beside = found["agreement"]
    assert f"engine cpu against this: {beside['matched']} matched" in " ".join(shown.split())
    assert beside["matched"] > 0
    gaps = beside["score_difference"]
    if target == "cpu":  # the same integers: what is left is the rounding of FP32 layers
        assert beside["confident"] == {"score": 0.5, "missed": 0, "invented": 0}
        assert gaps["p50"] < 1e-5
    else:  # other grids and rounding places
        assert gaps["p50"] > 1e-5


def test_a_foretold_fault_is_seen(work: Path, tmp_path: Path) -> None:
    """A scale of the recipe that is 30 times too wide costs AP on every target."""
    shutil.copytree(work / "tiny.maskrt", tmp_path / "bad.maskrt")
    opened = Bundle.open(tmp_path / "bad.maskrt")
    recipe = opened.read_json("recipe.json")
    for tensor in recipe["tensors"].values():
        tensor["scales"] = {method: 30 * scale for method, scale in tensor["scales"].items()}
    with opened.edit() as staged:
        staged.write("recipe.json", recipe)
        staged.remove("engines/")  # they were built from the other one
    images, annotations = work / "pictures", work / "annotations.json"
    ap = []
    for bundle in (work / "tiny.maskrt", tmp_path / "bad.maskrt"):
        report = maskrt.check(
            bundle, images=images, annotations=annotations, as_target="gpu", precision="int8"
        )
        ap.append(report.metrics["box"]["AP"])
    assert ap[1] < ap[0] - 5


@pytest.mark.parametrize("more", [["--target", "cpu"], ["--explain"], ["--dask", "tcp://x:1"]])
def test_a_foretold_target_goes_alone(
    work: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(work, "--as", "rtx", *more) == 2
    assert "leave out one of the two" in " ".join(capsys.readouterr().err.split())


def test_precisions_that_cannot_be_foretold_say_so(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(work, "--as", "rtx-89", "--precision", "fp8") == 1
    assert "FP8 cannot be evaluated on this CPU" in " ".join(capsys.readouterr().err.split())


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
    assert check(work, "--precision", "fp32", "--weights", work / "tiny.pth", *MODEL,
                 "--max-ap-drop", "0.05") == 0  # fmt: skip
    assert "PyTorch FP32" in capsys.readouterr().out
    other = work / "other.pth"
    other.write_bytes((work / "tiny.pth").read_bytes() + b" ")
    assert check(work, "--weights", other, *MODEL) == 1
    assert "are not the file that the bundle was compiled from" in capsys.readouterr().err
