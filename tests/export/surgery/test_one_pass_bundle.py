"""A YOLO file through the pipeline: options, INT8 with wide answers, packages, and the verbs."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import maskrt
from maskrt.calib.recipe import Recipe
from maskrt.cli import main
from maskrt.core import Bundle, Precision, UsageError
from maskrt.core.bundle import RECIPE
from maskrt.packaging.deepstream import package_deepstream

from .one_pass_files import detr_file, yolo11_file
from .test_one_pass import _picture

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """INT8 on the CPU, compiled with options of its head."""
    folder = tmp_path_factory.mktemp("yolo")
    onnx.save(yolo11_file(), str(folder / "model.onnx"))
    pictures = [_picture(seed, (90, 120)) for seed in range(4)]
    return maskrt.compile(
        folder / "model.onnx",
        folder / "street.maskrt",
        calibration=pictures,
        precision="int8",
        score_threshold=0.3,
        max_detections=50,
    )


def test_answers_stay_wide_and_instances_stay(bundle: Bundle) -> None:
    assert bundle.manifest.fidelity["violations"] == []
    assert bundle.manifest.source["choice"]["score_threshold"] == 0.3
    recipe = Recipe.from_json(bundle.read_json(RECIPE))
    wide = [c for c in recipe.layers.values() if "answers" in c.reason]
    # Boxes, scores and coefficients of three levels, the mean of distributions, prototypes.
    assert len(wide) == 3 * 3 + 2
    assert {choice.precision for choice in wide} <= {Precision.FP16, Precision.FP32}
    assert len(recipe.narrow_layers()) >= 4
    picture = _picture(9, (60, 110))
    with maskrt.load(bundle, target="cpu") as session:
        found = session.predict(picture)
    assert 5 <= len(found) <= 50
    assert (found.scores > 0.3).all()
    assert found.masks is not None
    for mask, (x1, y1, x2, y2) in zip(found.masks, found.boxes, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            assert y1 <= rows.min() <= rows.max() < y2
            assert x1 <= columns.min() <= columns.max() < x2


def test_entropy_is_refused_before_anything_is_measured(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="entropy gives up"):
        maskrt.calibrate(bundle, [_picture()], method="entropy")


def test_deepstream_places_as_the_family_does(bundle: Bundle, tmp_path: Path) -> None:
    package_deepstream(bundle, tmp_path / "yolo", target="orin-nx", precision="fp16")
    text = (tmp_path / "yolo" / "config_infer_primary.txt").read_text()
    assert "maintain-aspect-ratio=1\nsymmetric-padding=1\n" in text
    onnx.save(detr_file("d_fine"), str(tmp_path / "detr.onnx"))
    detr = maskrt.compile(tmp_path / "detr.onnx", tmp_path / "detr.maskrt")
    package_deepstream(detr, tmp_path / "detr", target="orin-nx", precision="fp16")
    text = (tmp_path / "detr" / "config_infer_primary.txt").read_text()
    assert "maintain-aspect-ratio=0\nsymmetric-padding=0\n" in text


def test_the_verbs_say_what_it_is_and_take_its_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(yolo11_file(), str(path))
    _run("inspect", path)
    shown = capsys.readouterr().out
    assert "YOLOv8, 9, 11 or 12-seg" in shown
    assert "rewrites it whole" in shown
    options = ("--score-threshold", 0.4, "--placing", "top_left", "--fill", 0, 0, 0)
    _run("export", path, "-o", tmp_path / "b.maskrt", *options)
    manifest = Bundle.open(tmp_path / "b.maskrt").manifest
    assert manifest.input.pad_value == (0, 0, 0)
    assert manifest.source["choice"]["score_threshold"] == 0.4
    with pytest.raises(SystemExit) as ended:
        main(["export", str(path), "-o", str(tmp_path / "c.maskrt"), "--paste", "detectron2"])
    assert ended.value.code == 2
    assert "leave it out" in capsys.readouterr().err


def _run(*words: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code in (0, None)
