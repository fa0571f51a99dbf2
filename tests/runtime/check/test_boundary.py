"""Boundaries equal their definitions, written out pixel by pixel, and Boundary AP pycocotools'."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from maskrt.runtime.check import coco_metrics
from maskrt.runtime.check.boundary import (
    Region,
    boundary_iou,
    boundary_width,
    contour_f,
    contour_tolerance,
    cropped,
)
from maskrt.runtime.check.boundary import (
    region as region_of,
)

from .crowded import crowded_set
from .test_against_pycocotools import load, same

cocoeval_module = pytest.importorskip("pycocotools.cocoeval")
coco_module = pytest.importorskip("pycocotools.coco")
coco_mask = pytest.importorskip("pycocotools.mask")


def region(mask: np.ndarray, width: int) -> Region:
    return region_of(cropped(mask), width)


def region_by_definition(mask: np.ndarray, width: int) -> np.ndarray:
    """A pixel is in the region if it is inside and some pixel in the square around it is not."""
    padded = np.pad(mask, width)
    out = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        out[y, x] = not padded[y : y + 2 * width + 1, x : x + 2 * width + 1].all()
    return out


def f_by_definition(first: np.ndarray, second: np.ndarray, tolerance: int) -> float:
    a, b = (np.argwhere(region_by_definition(m, 1)) for m in (first, second))
    if not len(a) or not len(b):
        return 0.0
    distance = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    precision = (distance.min(1) <= tolerance).mean()
    recall = (distance.min(0) <= tolerance).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def shapes(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :56]
    masks = [
        ((y - rng.uniform(0, 40)) / rng.uniform(3, 25)) ** 2
        + ((x - rng.uniform(0, 56)) / rng.uniform(3, 25)) ** 2
        <= 1
        for _ in range(8)
    ]
    full, none = np.ones((40, 56), bool), np.zeros((40, 56), bool)
    holes = masks[0] & (rng.uniform(size=(40, 56)) < 0.9)
    return np.array([*masks, holes, full, none])


def spread(found: object) -> np.ndarray:
    out = np.zeros((40, 56), bool)
    height, width = found.inside.shape  # type: ignore[attr-defined]
    out[found.top : found.top + height, found.left : found.left + width] = found.inside  # type: ignore[attr-defined]
    return out


@pytest.mark.parametrize("width", [1, 2, 3, 5, 9, 30])
def test_regions(width: int) -> None:
    for mask in shapes(width):
        np.testing.assert_array_equal(
            spread(region(mask, width)), region_by_definition(mask, width)
        )


@pytest.mark.parametrize("seed", range(3))
def test_boundary_iou(seed: int) -> None:
    masks = shapes(seed)
    for first in masks:
        for second in masks:
            a, b = region_by_definition(first, 2), region_by_definition(second, 2)
            union = (a | b).sum()
            expected = (a & b).sum() / union if union else 0.0
            assert boundary_iou(region(first, 2), region(second, 2)) == pytest.approx(expected)
            if a.any():
                found = boundary_iou(region(first, 2), region(second, 2), crowd=True)
                assert found == pytest.approx((a & b).sum() / a.sum())


@pytest.mark.parametrize("tolerance", [1, 2, 5])
def test_f_score(tolerance: int) -> None:
    masks = shapes(10 + tolerance)
    for first in masks:
        for second in masks:
            found = contour_f(region(first, 1), region(second, 1), tolerance)
            assert found == pytest.approx(f_by_definition(first, second, tolerance))


def test_widths_in_pixels() -> None:
    assert boundary_width((480, 640)) == 16
    assert contour_tolerance((480, 640)) == math.ceil(6.4)
    assert boundary_width((10, 10)) == contour_tolerance((10, 10)) == 1


def test_boundary_ap_equals_pycocotools_given_the_smaller_iou(tmp_path: Path) -> None:
    """pycocotools is handed the IoUs that the paper's own evaluation hands it."""
    data, results = crowded_set(12)
    truth = coco_module.COCO()
    truth.dataset = json.loads(json.dumps(data))
    truth.createIndex()
    found = truth.loadRes([{k: v for k, v in r.items() if k != "bbox"} for r in results])

    class Boundary(cocoeval_module.COCOeval):
        def computeIoU(self, image: int, category: int) -> object:  # noqa: N802
            ious = super().computeIoU(image, category)
            if not len(ious):
                return ious
            pairs = (self._gts[image, category], self._dts[image, category])
            size = truth.imgs[image]["height"], truth.imgs[image]["width"]
            regions = []
            for entries in pairs:
                rles = [truth.annToRLE(e) if "segmentation" in e else None for e in entries]
                regions.append(
                    [region_by_definition(coco_mask.decode(r).astype(bool), boundary_width(size))
                     for r in rles]
                )  # fmt: skip
            order = np.argsort([-e["score"] for e in pairs[1]], kind="mergesort")
            out = np.array(ious)
            for i, at in enumerate(order):
                for j, entry in enumerate(pairs[0]):
                    a, b = regions[1][at], regions[0][j]
                    total = a.sum() if entry["iscrowd"] else (a | b).sum()
                    value = (a & b).sum() / total if total else 0.0
                    out[i, j] = min(out[i, j], value)
            return out

    run = Boundary(truth, found, "segm")
    run.evaluate()
    run.accumulate()
    run.summarize()
    dataset = load(data, tmp_path)
    same(coco_metrics(results, dataset, "boundary"), 100 * run.stats)
    mask = coco_metrics(results, dataset, "mask")["AP"]
    assert mask is not None
    assert 0 < 100 * run.stats[0] < mask
