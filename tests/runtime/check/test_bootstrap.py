"""Weighted AP is the AP of a data set in which pictures are repeated; intervals know noise."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskrt.runtime.check import CocoDataset, CocoEvaluator, coco_metrics, drop_interval
from maskrt.runtime.check.bootstrap import weighted_ap

from .crowded import crowded_set
from .test_against_pycocotools import load

pytest.importorskip("pycocotools")


def evaluated(dataset: CocoDataset, results: list[dict]) -> CocoEvaluator:
    evaluator = CocoEvaluator(dataset, ("box", "mask"))
    for image in dataset.images:
        evaluator.add(image.id, [r for r in results if r["image_id"] == image.id])
    return evaluator


def repeated(data: dict, results: list[dict], weights: dict[int, int]) -> tuple[dict, list[dict]]:
    """Return the set with each picture as often as it weighs, under ids that keep the order."""
    copies = {key: [100 * key + n for n in range(weights[key])] for key in weights}
    images = [{**i, "id": n} for i in data["images"] for n in copies[i["id"]]]
    again = [
        [{**e, "image_id": n} for e in entries for n in copies[e["image_id"]]]
        for entries in (data["annotations"], results)
    ]
    return {**data, "images": images, "annotations": again[0]}, again[1]


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_weighted_ap_is_that_of_repeated_pictures(tmp_path: Path, kind: str) -> None:
    data, results = crowded_set(15, seed=2)
    results = [  # without equal scores, whose order repetition changes
        {**r, "score": r["score"] + 1e-6 * n} for n, r in enumerate(results)
    ]
    tables = evaluated(load(data, tmp_path), results).tables(kind)  # type: ignore[arg-type]
    ids = sorted(image["id"] for image in data["images"])
    rng = np.random.default_rng(1)
    weights = np.vstack([np.ones(15), rng.multinomial(15, np.full(15, 1 / 15), 4)])
    for row, value in zip(weights, weighted_ap(tables, weights), strict=True):
        by_id = {key: int(w) for key, w in zip(ids, row, strict=True)}
        again, more = repeated(data, results, by_id)
        expected = coco_metrics(more, load(again, tmp_path), kind)["AP"]  # type: ignore[arg-type]
        assert 100 * value == pytest.approx(expected, abs=1e-6)


def test_identical_models_differ_by_nothing(tmp_path: Path) -> None:
    data, results = crowded_set(15)
    tables = evaluated(load(data, tmp_path), results).tables("box")
    found = drop_interval(tables, tables, 15)
    assert (found["low"], found["high"], found["within_noise"]) == (0.0, 0.0, True)


def test_noise_and_a_finding(tmp_path: Path) -> None:
    """Scores shaken a little are within noise of one another; nine of ten results lost are not."""
    data, results = crowded_set(40, seed=3)
    dataset = load(data, tmp_path)
    rng = np.random.default_rng(0)
    results = [{**r, "score": r["score"] + 0.01 * rng.normal()} for r in results]
    base = evaluated(dataset, results).tables("mask")
    shaken = [{**r, "score": r["score"] + 0.05 * rng.normal()} for r in results]
    few = results[::10]
    noise = drop_interval(base, evaluated(dataset, shaken).tables("mask"), 40)
    finding = drop_interval(base, evaluated(dataset, few).tables("mask"), 40)
    assert noise["within_noise"]
    assert not finding["within_noise"]
    assert 0 < finding["low"] < finding["high"]


def test_more_pictures_narrow_the_interval(tmp_path: Path) -> None:
    widths = []
    for pictures in (10, 90):
        data, results = crowded_set(pictures, seed=4)
        dataset = load(data, tmp_path)
        first = evaluated(dataset, results).tables("box")
        second = evaluated(dataset, results[::4]).tables("box")
        found = drop_interval(first, second, pictures)
        widths.append(found["high"] - found["low"])
    assert widths[1] < 0.6 * widths[0]


def test_it_is_deterministic(tmp_path: Path) -> None:
    data, results = crowded_set(12)
    dataset = load(data, tmp_path)
    first = evaluated(dataset, results).tables("box")
    second = evaluated(replace(dataset), results[::2]).tables("box")
    assert drop_interval(first, second, 12) == drop_interval(first, second, 12)
    assert json.dumps(drop_interval(first, second, 12))
