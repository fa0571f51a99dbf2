"""AP of a YOLO's bundle: categories by name, budgets, and masks that are never all made.

What its FP32 engine finds in four scenes is what is annotated, so its own AP is 100. Categories
are numbered as COCO's: with gaps, and in another order than the file's names.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import maskrt
from maskrt.core import Bundle, CheckFailedError
from maskrt.runtime.canvas_masks import CanvasMasks
from maskrt.runtime.check import Report

from .one_pass_files import yolo11_file
from .test_one_pass import _picture

pytest.importorskip("pycocotools")
pytestmark = pytest.mark.torch

IDS = {"ant": 11, "bee": 2, "cat": 90, "dog": 4, "elk": 1}
HEAD: dict[str, Any] = {"score_threshold": 0.4, "max_detections": 20}


class Scenes:
    """A folder with a file, its FP32 bundle, scenes, and what was found in them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, folder / "model.onnx"
        onnx.save(yolo11_file(), str(self.model))
        self.pictures = [_picture(seed, (90 + 10 * seed, 120)) for seed in range(4)]
        (folder / "val").mkdir()
        for index, picture in enumerate(self.pictures):
            Image.fromarray(picture).save(folder / "val" / f"{index}.png")
        self.bundle = maskrt.compile(self.model, folder / "fp32.maskrt", **HEAD)
        self.annotate("val.json", IDS, IDS)

    def annotate(self, name: str, ids: dict[str, int], names: dict[str, int]) -> Path:
        """Write what FP32 finds; `ids` are the categories', and `names` what they are called."""
        entries: list[dict[str, Any]] = []
        with maskrt.load(self.bundle, target="cpu") as session:
            for index, picture in enumerate(self.pictures):
                found = session.predict(picture)
                assert len(found) == 20
                for entry in found.to_coco(index):
                    label = ids[found.name_of(entry["category_id"])]
                    area = entry["bbox"][2] * entry["bbox"][3]
                    entries.append(
                        {**entry, "id": len(entries) + 1, "category_id": label, "area": area}
                    )
        sizes = [picture.shape[:2] for picture in self.pictures]
        data = {
            "images": [
                {"id": i, "file_name": f"{i}.png", "height": h, "width": w}
                for i, (h, w) in enumerate(sizes)
            ],
            "categories": [{"id": number, "name": called} for called, number in names.items()],
            "annotations": entries,
        }
        path = self.folder / name
        path.write_text(json.dumps(data))
        return path

    def check(self, bundle: Bundle, annotations: str = "val.json", **options: Any) -> Report:
        where = {"images": self.folder / "val", "annotations": self.folder / annotations}
        return maskrt.check(bundle, **where, **options)

    def compile(self, name: str, **options: Any) -> Bundle:
        return maskrt.compile(
            self.model, self.folder / name, calibration=self.pictures,
            images=self.folder / "val", annotations=self.folder / "val.json", **HEAD, **options,
        )  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return Scenes(tmp_path_factory.mktemp("scenes"))


def test_what_fp32_finds_is_worth_everything_by_name(
    scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: CanvasMasks) -> np.ndarray:
        raise AssertionError("all masks were made at once")

    monkeypatch.setattr(CanvasMasks, "__call__", refuse)
    report = scenes.check(scenes.bundle)
    assert report.metrics["box"]["AP"] == pytest.approx(100)
    assert report.metrics["mask"]["AP"] == report.reference["mask"]["AP"]
    assert report.metrics["mask"]["AP"] > 90  # not 100: some masks have no pixel, and match none
    assert "matched by name" in report.note
    assert set(report.classes["box"]) == set(IDS)
    maskrt.run(scenes.bundle, scenes.folder / "val", scenes.folder / "out", min_score=0.1)
    found = json.loads((scenes.folder / "out" / "results.json").read_text())
    assert len(found) == 80
    assert all(entry["segmentation"]["counts"] for entry in found)


def test_another_order_of_classes_is_worth_little(scenes: Scenes) -> None:
    """So the test above can fail: names that tell nothing, and each label moved by one.

    It is not nothing, as some boxes of two labels nearly coincide.
    """
    moved = {name: place % 5 + 1 for place, name in enumerate(IDS, 1)}
    scenes.annotate("moved.json", moved, {f"kind {number}": number for number in range(1, 6)})
    report = scenes.check(scenes.bundle, "moved.json")
    assert (report.metrics["box"]["AP"] or 0) < 50
    assert "by name" not in report.note


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "budget"), [("int8", 40.0), ("mixed", 25.0)])
def test_a_budget_is_kept_at_int8_and_mixed(scenes: Scenes, precision: str, budget: float) -> None:
    bundle = scenes.compile(f"{precision}.maskrt", precision=precision, max_ap_drop=budget)
    report = scenes.check(bundle, max_ap_drop=budget)
    assert report.passed
    for kind in ("box", "mask"):
        assert 50 < report.metrics[kind]["AP"] < report.reference[kind]["AP"]
    read = bundle.read_json("engines/cpu/engine.json")["layers"]
    assert read["int8"] >= 4


@pytest.mark.slow
def test_a_budget_that_eight_bits_miss_is_refused(scenes: Scenes) -> None:
    with pytest.raises(CheckFailedError, match="budget"):
        scenes.compile("missed.maskrt", precision="int8", max_ap_drop=0.01)
