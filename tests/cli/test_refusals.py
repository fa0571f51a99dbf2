"""What the commands refuse: one sentence each, and nothing half written."""

from pathlib import Path

import pytest

import maskrt
import maskrt.core
from maskrt.precision.request import Judged, RecipeRequest

from .command_line import run

pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.mark.parametrize("words", [("bench",), ("run", "pictures", "-o", "never")])
def test_a_target_without_a_device_is_refused_in_a_sentence(
    work: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *rest = words
    paths = [word if word.startswith("-") else work / word for word in rest]
    assert run(verb, work / "tiny.maskrt", *paths, "--on-device") == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == (
        "error: target cpu has no device to run frames on: leave out --on-device."
    )
    assert not (work / "never").exists()
    with pytest.raises(maskrt.core.UsageError, match="has no device"):
        maskrt.load(work / "tiny.maskrt", on_device=True)


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["compile", "torchvision:maskrcnn_resnet50", "-o", "{out}"], 2, "did you mean"),
        (["compile", "resnet", "-o", "{out}"], 2, "is not understood"),
        (["compile", "maskrt:nothing", "-o", "{out}"], 2, "maskrt has no model"),
        (["compile", "no.such.module:f", "-o", "{out}"], 2, "cannot be imported"),
        (["compile", "torchvision:retinanet_resnet50_fpn", "-o", "{out}"], 1, "RetinaNet"),
        (["compile", "model.onnx", "-o", "{out}"], 1, "does not exist"),
        (["compile", "{tiny}", "-o", "{out}", "--precision", "int8"], 2, "needs calibration"),
        (["compile", "{tiny}", "-o", "{out}", "--input-size", "16", "320"], 2, "32 to 8192"),
        (["compile", "{tiny}", "-o", "{out}", "--target", "gpu"], 1, "this machine's GPU"),
        (["compile", "{tiny}", "-o", "{out}", "--weights", "{empty}/w.pth"], 1, "do not exist"),
        (["compile", "{tiny}", "-o", "{out}", "--weights", "{damaged}"],
         1, "cut short or damaged"),
        (["compile", "{tiny}", "-o", "{out}", "--weights", "{other}"], 1, "are not this model's"),
        (["compile", "{tiny}", "-o", "{out}", "--precision", "int8", "--calibration", "{empty}"],
         1, "no picture"),
        (["compile", "{tiny}", "-o", "{empty}"], 2, "is not a bundle"),
        (["compile", "{tiny}", "-o", "{out}", "--max-ap-drop", "1"], 2, "give both"),
        (["compile", "{tiny}", "-o", "{out}", "--precision", "bf16"], 1, "has no BF16"),
        (["compile", "{tiny}", "-o", "{out}", "--precision", "fp8", "--target", "rtx-89"],
         2, "precision fp8 needs calibration"),
        (["build", "{bundle}", "--target", "orin-nx", "--precision", "fp8"], 1, "FP8 needs SM 8.9"),
        (["compile", "{tiny}", "-o", "{out}", "--equalise"], 2, "equalisation is for INT8"),
        (["calibrate", "{bundle}", "--calibration", "{pictures}", "--equalise",
          "--bias-correction"], 2, "equalisation and bias correction is kept only where it raises"),
        (["calibrate", "{bundle}", "--calibration", "{pictures}", "--images", "{pictures}"],
         2, "ask for one of them"),
        (["run", "{out}", "x.jpg"], 1, "does not exist"),
        (["run", "{bundle}", "{empty}"], 1, "no picture"),
        (["run", "{bundle}", "absent.jpg"], 1, "absent.jpg"),
        (["run", "{bundle}", "x.jpg", "--precision", "fp16", "--target", "cpu"], 1, "maskrt build"),
        (["run", "{bundle}", "x.jpg", "--precision", "bf16"], 1, "error: BF16 cannot be had on"),
        (["bench", "{bundle}", "--precision", "bf16"], 1, "error: BF16 cannot be had on"),
        (["run", "{bundle}", "x.jpg", "--target", "orin-nx"], 1, "on the device, a Jetson Orin NX"),
        (["inspect", "{bundle}/model.onnx"], 2, "see it with maskrt inspect {bundle}"),
        (["compile", "{bundle}/model.onnx", "-o", "{out}"], 2, "is a graph that maskrt wrote"),
        (["inspect", "{damaged}"], 1, "is neither a bundle nor an .onnx file"),
        (["check", "{bundle}", "--images", "{empty}", "--annotations", "no.json"], 1, "no.json"),
        (["nonsense"], 2, "nonsense"),
    ],
)  # fmt: skip
def test_one_sentence_and_nothing_half_written(
    work: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    sentence: str,
) -> None:
    import torch

    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.pth").write_bytes((work / "tiny.pth").read_bytes()[:5000])
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    places = {
        "out": tmp_path / "out.maskrt", "empty": tmp_path / "empty", "bundle": work / "tiny.maskrt",
        "damaged": tmp_path / "damaged.pth", "other": tmp_path / "other.pth",
        "tiny": "tests.export.detectors:tiny_mask_rcnn", "pictures": work / "pictures",
    }  # fmt: skip
    before = {p.name for p in tmp_path.iterdir()}
    assert run(*(word.format(**places) for word in words)) == status
    shown = capsys.readouterr().err
    assert sentence.format(**places) in shown
    assert "?." not in shown
    assert "Traceback" not in shown
    assert {p.name for p in tmp_path.iterdir()} == before


def test_a_budget_that_no_built_engine_could_be_held_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Jetson without TensorRT's Python package runs its target, and can only prepare it."""
    monkeypatch.setattr("maskrt.runtime.possible.can_run", lambda target: True)
    target = maskrt.core.Target.parse("orin-nx")
    with pytest.raises(maskrt.core.UsageError, match=r"can build and run none of .*orin-nx"):
        Judged.of(RecipeRequest(), [target], tmp_path, tmp_path, 1.0)


@pytest.mark.parametrize(("precision", "advised"), [("int8", True), ("fp8", False)])
def test_a_budget_is_not_advised_a_target_that_lacks_the_precision(
    tmp_path: Path, precision: str, advised: bool
) -> None:
    wanted, target = maskrt.core.Precision.parse(precision), maskrt.core.Target.parse("thor")
    with pytest.raises(maskrt.core.UsageError, match="leave the budget out") as refused:
        Judged.of(RecipeRequest(wanted, (tmp_path,)), [target], tmp_path, tmp_path, 1.0)
    assert ("add the target cpu" in str(refused.value)) is advised


def test_an_argument_of_python_is_said_as_the_option_of_the_verb(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compile", "maskrt:solo_scenes", "-o", tmp_path / "o", "--images", work / "pictures"]
    assert run(*words) == 2
    shown = capsys.readouterr().err
    assert "images and annotations measure --max-ap-drop: give that, too." in shown
    with pytest.raises(maskrt.core.UsageError, match="measure max_ap_drop"):
        maskrt.compile("maskrt:solo_scenes", tmp_path / "o", images=work / "pictures")
