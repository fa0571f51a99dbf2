"""The confusion matrix equals one that is made by trying every pair in turn."""

from typing import Any

import numpy as np
import pytest

from maskrt.runtime.check.confusion import Confusion

from .crowded import crowded_set

NAMES = {1: "c1", 3: "c3", 4: "c4", 9: "c9"}
ORDER = [1, 3, 4, 9]


def overlap(a: list[float], b: list[float]) -> float:
    """IoU of two boxes, xywh."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = a[2] * a[3] + b[2] * b[3] - shared
    return shared / union if union else 0.0


def covered(a: list[float], crowd: list[float]) -> bool:
    width = min(a[0] + a[2], crowd[0] + crowd[2]) - max(a[0], crowd[0])
    height = min(a[1] + a[3], crowd[1] + crowd[3]) - max(a[1], crowd[1])
    return max(width, 0.0) * max(height, 0.0) >= 0.5 * a[2] * a[3]


def brute_force(data: dict[str, Any], results: list[dict[str, Any]]) -> np.ndarray:
    counts = np.zeros((5, 5), int)
    for image in data["images"]:
        objects = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        crowds = [a for a in objects if a["iscrowd"]]
        objects = [a for a in objects if not a["iscrowd"]]
        found = [r for r in results if r["image_id"] == image["id"] and r["score"] >= 0.5]
        for same_label in (True, False):
            while True:
                best, pair = 0.5, None
                for a in objects:
                    for r in found:
                        if same_label and a["category_id"] != r["category_id"]:
                            continue
                        value = overlap(a["bbox"], r["bbox"])
                        if value >= best and (pair is None or value > best):
                            best, pair = value, (a, r)
                if pair is None:
                    break
                a, r = pair
                counts[ORDER.index(a["category_id"]), ORDER.index(r["category_id"])] += 1
                objects = [other for other in objects if other is not a]
                found = [other for other in found if other is not r]
        for a in objects:
            counts[ORDER.index(a["category_id"]), 4] += 1
        for r in found:
            if not any(covered(r["bbox"], crowd["bbox"]) for crowd in crowds):
                counts[4, ORDER.index(r["category_id"])] += 1
    return counts


@pytest.mark.parametrize("seed", range(5))
def test_it_is_that_of_every_pair_in_turn(seed: int) -> None:
    data, results = crowded_set(25, seed)
    rng = np.random.default_rng(seed)
    for result in results:  # as far apart as scores and boxes are in a real set: no equal IoUs
        result["bbox"] = [value + float(rng.uniform(0, 0.5)) for value in result["bbox"]]
        result["category_id"] = int(rng.choice([result["category_id"], 3]))
    made = Confusion(NAMES)
    for image in data["images"]:
        key = image["id"]
        made.add(
            [r for r in results if r["image_id"] == key],
            [a for a in data["annotations"] if a["image_id"] == key],
        )
    expected = brute_force(data, results)
    assert expected[:4, :4].trace() > 10
    assert expected[:4, :4].sum() > expected[:4, :4].trace()
    assert expected[4].any()
    assert expected[:, 4].any()
    np.testing.assert_array_equal(made.counts, expected)
    assert made.to_json()["labels"] == ["c1", "c3", "c4", "c9"]


def test_what_is_not_sure_or_no_category_is_no_detection() -> None:
    truth = [{"category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 0}]
    made = Confusion({1: "a"})
    made.add(
        [
            {"category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.49},
            {"category_id": 7, "bbox": [0, 0, 9, 9], "score": 0.9},
        ],
        truth,
    )
    np.testing.assert_array_equal(made.counts, [[0, 1], [0, 0]])
