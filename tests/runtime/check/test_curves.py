"""Precision over recall equals pycocotools', F1 over score a count by hand."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskrt.runtime.check import CocoEvaluator
from maskrt.runtime.check.curves import SCORES, class_curves, f1_over_score, precision_over_recall

from .crowded import CATEGORIES, crowded_set
from .test_against_pycocotools import coco_module, cocoeval_module, load

NAMES = {"box": "bbox", "mask": "segm"}


def pycocotools_run(data: dict, results: list[dict], kind: str) -> Any:
    unused = {"box": "segmentation", "mask": "bbox"}[kind]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_module.COCO()
        truth.dataset = json.loads(json.dumps(data))
        truth.createIndex()
        found = truth.loadRes([{k: v for k, v in r.items() if k != unused} for r in results])
        run = cocoeval_module.COCOeval(truth, found, NAMES[kind])
        run.evaluate()
        run.accumulate()
    return run


def evaluated(data: dict, results: list[dict], folder: Path) -> CocoEvaluator:
    evaluator = CocoEvaluator(load(data, folder), ("box", "mask"))
    for image in data["images"]:
        evaluator.add(image["id"], [r for r in results if r["image_id"] == image["id"]])
    return evaluator


@pytest.mark.parametrize("kind", ["box", "mask"])
@pytest.mark.parametrize("seed", range(3))
def test_precision_is_that_of_pycocotools(tmp_path: Path, kind: Any, seed: int) -> None:
    data, results = crowded_set(20, seed)
    run = pycocotools_run(data, results, kind)
    tables = evaluated(data, results, tmp_path).tables(kind)
    assert tables.categories() == list(CATEGORIES)
    for category in tables.categories():
        place = run.params.catIds.index(category)
        expected = run.eval["precision"][:, :, place, 0, 2]  # all areas, 100 detections
        np.testing.assert_allclose(precision_over_recall(tables, category), expected, atol=1e-9)


def test_f1_is_a_count_at_each_threshold(tmp_path: Path) -> None:
    """Matches are pycocotools' own, detection by detection; the rest is counted in a loop."""
    data, results = crowded_set(20, 1)
    run = pycocotools_run(data, results, "mask")
    tables = evaluated(data, results, tmp_path).tables("mask")
    for category in tables.categories():
        scores, hits, annotated = [], [], 0
        for found in run.evalImgs:
            if found is None or found["category_id"] != category:
                continue
            if found["aRng"] != run.params.areaRng[0]:
                continue
            annotated += int((~np.array(found["gtIgnore"], bool)).sum())
            for score, match, ignored in zip(
                found["dtScores"], found["dtMatches"][0], found["dtIgnore"][0], strict=True
            ):
                if not ignored:
                    scores.append(score)
                    hits.append(match > 0)
        precision, recall, f1 = f1_over_score(tables, category)
        for at, least in enumerate(SCORES):
            kept = [hit for score, hit in zip(scores, hits, strict=True) if score >= least]
            true, false = sum(kept), len(kept) - sum(kept)
            assert precision[at] == pytest.approx(true / len(kept) if kept else 1.0)
            assert recall[at] == pytest.approx(true / annotated)
            assert f1[at] == pytest.approx(2 * true / (2 * true + false + annotated - true))


def test_the_best_threshold_is_one_of_the_largest_f1(tmp_path: Path) -> None:
    data, results = crowded_set(20, 2)
    tables = evaluated(data, results, tmp_path).tables("box")
    found = class_curves(tables, {category: f"c{category}" for category in CATEGORIES})
    assert list(found) == ["c1", "c3", "c4"]
    for curve in found.values():
        best = curve["best"]
        assert best["f1"] == max(curve["f1"]) > 0.1
        assert curve["f1"].index(best["f1"]) == round(100 * best["score"])
        mean = np.mean([2 * best["precision"] * best["recall"]])
        assert best["f1"] == pytest.approx(mean / (best["precision"] + best["recall"]), abs=2e-5)


def test_a_category_without_a_detection_has_a_curve_of_zeros(tmp_path: Path) -> None:
    data, _ = crowded_set(6)
    tables = evaluated(data, [], tmp_path).tables("box")
    for category in tables.categories():
        assert not precision_over_recall(tables, category).any()
        np.testing.assert_array_equal(f1_over_score(tables, category)[:, 0], [1.0, 0.0, 0.0])
