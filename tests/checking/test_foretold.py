"""The engine for `cpu` against the exact evaluation of its own graph, on the trained demo model."""

from pathlib import Path

import pytest

import maskrt
from maskrt.demo import weights_path
from maskrt.demo.run import MODEL
from maskrt.demo.scenes import CLASS_NAMES, scene, write_coco

pytest.importorskip("onnxruntime")
pytestmark = [pytest.mark.slow, pytest.mark.torch]
SCENES = 16


def test_the_engine_for_cpu_is_the_exact_evaluation(tmp_path: Path) -> None:
    """Every instance above 0.5 is found again; one picture in some rounds an FP32 sum otherwise."""
    pictures = [scene(index, split="train", size=(320, 320)).image for index in range(12)]
    maskrt.compile(
        MODEL, tmp_path / "m.maskrt", weights=weights_path(), input_size=(320, 320),
        calibration=pictures, precision="int8", class_names=("background", *CLASS_NAMES),
        targets=["cpu"],
    )  # fmt: skip
    annotations = write_coco(tmp_path / "val", SCENES, split="val", size=(320, 320))
    report = maskrt.check(
        tmp_path / "m.maskrt", images=annotations.parent / "images", annotations=annotations,
        as_target="cpu",
    )  # fmt: skip
    found = report.foretold
    assert found is not None
    assert found["engine"] == "cpu"
    assert found["agreement"]["confident"] == {"score": 0.5, "missed": 0, "invented": 0}
    assert found["agreement"]["score_difference"]["p50"] < 1e-4
    for kind in ("box", "mask"):  # 0.05 on 200 scenes; so few make AP coarser
        assert abs(found["metrics"][kind]["AP"] - report.metrics[kind]["AP"]) < 0.3
