"""`maskrt recipe`, `--keep` and `maskrt export --inlined`, on the command line and in Python."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import maskrt
from maskrt.calib.bundled import read_model, read_recipe
from maskrt.core import Bundle, Precision
from maskrt.runtime.backends.cpu import CpuBackend

from .command_line import run

pytest.importorskip("torch")
pytestmark = pytest.mark.torch
LEVELS, CONV = "backbone.fpn.layer_blocks.*", "backbone.fpn.layer_blocks.2.0"


@pytest.fixture
def bundle(work: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(work / "tiny.maskrt", tmp_path / "own.maskrt")
    return Bundle.open(tmp_path / "own.maskrt")


def _precisions(bundle: Bundle) -> dict[str, str]:
    recipe = read_recipe(Bundle.open(bundle.path), Precision.INT8)
    return {name: choice.precision.value for name, choice in recipe.layers.items()}


def test_recipe_lists_and_keeps(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    before, engines = _precisions(bundle), bundle.engines()
    assert run("recipe", bundle.path) == 0
    assert Bundle.open(bundle.path).engines() == engines  # nothing was changed
    listed = capsys.readouterr().out
    assert all(name in listed for name in before)
    assert run("recipe", bundle.path, "--set", f"{LEVELS}=fp16", "--set", f"{CONV}=fp32") == 0
    assert "kept at fp32" in capsys.readouterr().out
    after = _precisions(bundle)
    changed = {name: got for name, got in after.items() if got != before[name]}
    assert changed.pop(CONV) == "fp32"
    assert changed == {
        "backbone.fpn.layer_blocks.0.0": "fp16",
        "backbone.fpn.layer_blocks.1.0": "fp16",
    }
    assert not Bundle.open(bundle.path).engines()  # what the old recipe made is gone
    assert run("build", bundle.path, "--target", "cpu") == 0
    info = Bundle.open(bundle.path).read_json("engines/cpu/engine.json")
    assert {CONV, *changed} <= set(info["wider"])
    with maskrt.load(bundle.path, "cpu") as session:
        assert len(session.predict(np.full((128, 160, 3), 90, np.uint8)).scores) >= 0


def test_calibrate_keeps_too(work: Path, bundle: Bundle) -> None:
    """And what it kept before is forgotten, if it is not given again."""
    words = ["calibrate", bundle.path, "--calibration", work / "pictures"]
    assert run(*words, "--keep", f"{LEVELS}=fp16", "--keep-outputs") == 0
    found = _precisions(bundle)
    assert found[CONV] == "fp16"
    assert found["rpn.head.cls_logits.2"] == found["roi_heads.box_predictor.cls_score"] == "fp32"
    assert found["roi_heads.box_head.fc7"] == "int8"
    assert run(*words, "--keep", "rpn.haed.*=fp16") == 2
    assert _precisions(bundle) == found
    assert run(*words) == 0
    assert _precisions(bundle)[CONV] == "int8"


def test_a_kept_layer_survives_another_precision_and_int8_takes_it_back(bundle: Bundle) -> None:
    before = _precisions(bundle)
    maskrt.set_precisions(bundle, {LEVELS: "fp16"}, keep_outputs=True)
    recipe = read_recipe(Bundle.open(bundle.path), Precision.FP16)
    assert recipe.layers["roi_heads.box_predictor.cls_score"].precision is Precision.FP32
    maskrt.set_precisions(bundle, {"*": "int8"})
    assert _precisions(bundle) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "nothing.at.all=fp16"], "no layer is named 'nothing.at.all'"),
        (["--set", "fp16"], "'fp16' is not LAYER=PRECISION"),
        (["--set", "*=fp8"], "cannot be kept at fp8"),
    ],
)
def test_a_wrong_choice_changes_nothing(
    bundle: Bundle, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = bundle.digests
    assert run("recipe", bundle.path, *words) == 2
    assert message in capsys.readouterr().err
    assert Bundle.open(bundle.path).digests == before


def test_inlined_is_the_canonical_graph_to_the_bit(
    bundle: Bundle, tmp_path: Path, photos: list[np.ndarray]
) -> None:
    file = tmp_path / "plain.onnx"
    assert run("export", bundle.path, "--inlined", file) == 0
    plain = onnx.load(file)
    assert not plain.functions
    assert {node.domain for node in plain.graph.node} == {""}
    model, image = read_model(bundle), photos[0][None, :128, :160]
    with CpuBackend(model.SerializeToString()) as whole, CpuBackend(file.read_bytes()) as inlined:
        expected, found = whole.run(image), inlined.run(image)
    assert expected.keys() == found.keys()
    assert expected["count"].sum() > 0
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_inlined_int8_has_symmetric_int8_around_its_layers(bundle: Bundle, tmp_path: Path) -> None:
    file = maskrt.write_inlined(bundle, tmp_path / "int8.onnx", precision="int8")
    model = onnx.load(file)
    held = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    zeros = [held[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert {zero.dtype for zero in zeros} == {np.dtype(np.int8)}
    assert not any(zero.any() for zero in zeros)
    narrow = [name for name, got in _precisions(bundle).items() if got == "int8"]
    made = {name: node for node in model.graph.node for name in node.output}
    weights = {n.name: made[n.input[1]].op_type for n in model.graph.node if n.name in narrow}
    assert weights == dict.fromkeys(narrow, "DequantizeLinear")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "fp8"], "is for TensorRT alone"),
        (["-o", "other.maskrt"], "leave -o out"),
        (["--batch", "2"], "leave --batch out"),
    ],
)
def test_what_inlined_does_not_take(
    bundle: Bundle,
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("export", bundle.path, "--inlined", tmp_path / "x.onnx", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()
