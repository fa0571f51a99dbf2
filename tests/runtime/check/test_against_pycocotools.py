"""All twelve numbers, overall and by class, equal pycocotools' on sets made to be difficult."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskrt.runtime.check import METRICS, CocoDataset, CocoEvaluator, coco_metrics

from .crowded import crowded_set

coco_module = pytest.importorskip("pycocotools.coco")
cocoeval_module = pytest.importorskip("pycocotools.cocoeval")

EXACT = 1e-6


def load(data: dict, folder: Path) -> CocoDataset:
    for image in data["images"]:
        (folder / image["file_name"]).touch()
    (folder / "truth.json").write_text(json.dumps(data))
    return CocoDataset.load(folder, folder / "truth.json")


def plainly(data: dict, results: list[dict], kind: str, category: int | None = None) -> np.ndarray:
    name, unused = {"box": ("bbox", "segmentation"), "mask": ("segm", "bbox")}[kind]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_module.COCO()
        truth.dataset = json.loads(json.dumps(data))
        truth.createIndex()
        found = truth.loadRes([{k: v for k, v in r.items() if k != unused} for r in results])
        run = cocoeval_module.COCOeval(truth, found, name)
        if category is not None:
            run.params.catIds = [category]
        run.evaluate()
        run.accumulate()
        run.summarize()
    return 100 * run.stats


def same(found: dict[str, Any], stats: np.ndarray) -> None:
    for name, value in zip(METRICS, stats, strict=True):
        if value < 0:
            assert found[name] is None, name
        else:
            assert found[name] == pytest.approx(value, abs=EXACT), name


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["box", "mask"])
def test_the_twelve_numbers(tmp_path: Path, seed: int, kind: Any) -> None:
    data, results = crowded_set(25, seed)
    stats = plainly(data, results, kind)
    assert 2 < stats[0] < 90
    same(coco_metrics(results, load(data, tmp_path), kind), stats)


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_by_class(tmp_path: Path, kind: Any) -> None:
    data, results = crowded_set(25)
    evaluator = CocoEvaluator(load(data, tmp_path), ("box", "mask"))
    for image in data["images"]:
        evaluator.add(image["id"], [r for r in results if r["image_id"] == image["id"]])
    found = evaluator.class_metrics()[kind]
    assert list(found) == ["c1", "c3", "c4"]  # c9 is never annotated
    for name, values in found.items():
        same(values, plainly(data, results, kind, int(name[1:])))


def test_more_than_a_hundred_detections_of_a_class(tmp_path: Path) -> None:
    data, results = crowded_set(3)
    rng = np.random.default_rng(5)
    many = [{**r, "score": float(rng.uniform())} for r in results for _ in range(40)]
    same(coco_metrics(many, load(data, tmp_path), "box"), plainly(data, many, "box"))


def test_the_order_of_pictures_changes_nothing(tmp_path: Path) -> None:
    data, results = crowded_set(20)
    dataset = load(data, tmp_path)
    order = {image["id"]: at for at, image in enumerate(data["images"])}
    turned = sorted(results, key=lambda entry: -order[entry["image_id"]])
    assert coco_metrics(turned, dataset, "mask") == coco_metrics(results, dataset, "mask")
