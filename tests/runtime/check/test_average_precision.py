"""AP equals a plain use of pycocotools, and values worked out by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskrt.core import InputError, Instances
from maskrt.runtime.check import METRICS, CocoDataset, coco_metrics

coco_module = pytest.importorskip("pycocotools.coco")
cocoeval_module = pytest.importorskip("pycocotools.cocoeval")

Truth = Callable[..., Instances]
PICTURES = (7, 8, 9, 12)
PERFECT = pytest.approx(dict.fromkeys(METRICS, 100.0))  # pycocotools ends at 99.99999999999997


def entries(truth: Truth, pictures: tuple[int, ...] = PICTURES, **how: Any) -> list[dict[str, Any]]:
    return [entry for key in pictures for entry in truth(key, **how).to_coco(key)]


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_perfect_results(dataset: CocoDataset, truth: Truth, kind: Any) -> None:
    assert coco_metrics(entries(truth), dataset, kind) == PERFECT


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_no_results(dataset: CocoDataset, kind: Any) -> None:
    assert coco_metrics([], dataset, kind) == dict.fromkeys(METRICS, 0.0)


def test_half_the_objects(dataset: CocoDataset, truth: Truth) -> None:
    """Only the first square of each picture, all of category 1: recall 1 and 0."""
    metrics = coco_metrics(entries(truth, keep=1), dataset, "box")
    assert metrics["AP"] == pytest.approx(50.0)


def test_two_of_three_objects(dataset: CocoDataset, truth: Truth) -> None:
    """Recall 2/3 at precision 1: 67 of the 101 recall points; category 2 has recall 1/2: 51."""
    metrics = coco_metrics(entries(truth, (7, 12)), dataset, "box")
    assert metrics["AP"] == pytest.approx(100 * (67 + 51) / 2 / 101)


def test_shifted_boxes_count_at_the_ious_they_reach(dataset: CocoDataset, truth: Truth) -> None:
    """Shifted by 4 pixels both ways: IoU .47 (side 20), .77 (60), .85 (100), .68 (40)."""
    metrics = coco_metrics(entries(truth, shift=4.0), dataset, "box")
    assert metrics["APS"] == 0.0
    assert metrics["APL"] == pytest.approx(80.0)  # 0.50 to 0.85 of ten thresholds
    assert coco_metrics(entries(truth, shift=4.0), dataset, "mask")["AP"] == pytest.approx(100.0)


def test_annotation_zero_counts_as_found(dataset: CocoDataset, truth: Truth) -> None:
    """The first square's annotation has id 0 in the file, which pycocotools never matches."""
    assert coco_metrics(entries(truth), dataset, "box")["APS"] == pytest.approx(100.0)


def test_sizes_without_objects_are_none(dataset: CocoDataset, truth: Truth) -> None:
    small = replace(dataset, annotations=dataset.annotations[:1])
    metrics = coco_metrics(entries(truth, (7,), keep=1), small, "box")
    assert metrics["APS"] == pytest.approx(100.0)
    assert (metrics["APM"], metrics["APL"]) == (None, None)


def test_box_only_results(dataset: CocoDataset, truth: Truth) -> None:
    assert coco_metrics(entries(truth, masks=False), dataset, "box")["AP"] == pytest.approx(100.0)


def test_it_is_silent_and_changes_nothing(
    dataset: CocoDataset, truth: Truth, capfd: pytest.CaptureFixture[str]
) -> None:
    results = entries(truth)
    before = json.dumps([results, dataset.annotations])
    coco_metrics(results, dataset, "mask")
    assert json.dumps([results, dataset.annotations]) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_equals_pycocotools_used_plainly(
    folder: Path, dataset: CocoDataset, truth: Truth, kind: Any
) -> None:
    """The same, through files, with entries that COCO's own tools would be given."""
    rng = np.random.default_rng(0)
    results = entries(truth)
    for key in (7, 8, 12):  # false ones too, at every score
        elsewhere = truth(key, shift=30.0)
        elsewhere.masks_source = np.roll(truth(key).masks, 30, axis=(1, 2))
        for wrong in elsewhere.to_coco(key):
            results.append({**wrong, "score": float(rng.uniform(0.5, 1))})
    for entry in results:
        entry["bbox"] = [value + float(rng.normal(0, 3)) for value in entry["bbox"]]
    truth_json = json.loads((folder / "val.json").read_text())
    for number, annotation in enumerate(truth_json["annotations"], 100):
        annotation["id"] = number
    name, unused = {"box": ("bbox", "segmentation"), "mask": ("segm", "bbox")}[kind]
    (folder / "truth.json").write_text(json.dumps(truth_json))
    plain = [{k: v for k, v in entry.items() if k != unused} for entry in results]
    (folder / "results.json").write_text(json.dumps(plain))
    ground = coco_module.COCO(str(folder / "truth.json"))
    plainly = cocoeval_module.COCOeval(ground, ground.loadRes(str(folder / "results.json")), name)
    plainly.evaluate()
    plainly.accumulate()
    plainly.summarize()
    expected = dict(zip(METRICS, 100 * plainly.stats, strict=True))
    assert coco_metrics(results, dataset, kind) == pytest.approx(expected)
    assert 0 < expected["AP"] < 100


@pytest.mark.parametrize(
    "segmentation",
    [None, [], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], "x", {"size": [9, 9], "counts": [81]}],
)
def test_mask_ap_needs_valid_segmentations(
    dataset: CocoDataset, truth: Truth, segmentation: Any
) -> None:
    first = {**dataset.annotations[0], "segmentation": segmentation}
    broken = replace(dataset, annotations=(first, *dataset.annotations[1:]))
    with pytest.raises(InputError, match=r"1 of the 5 annotations of .*picture 7"):
        coco_metrics(entries(truth), broken, "mask")
    assert coco_metrics(entries(truth), broken, "box")["AP"] == pytest.approx(100.0)


def test_rle_segmentations_are_read(dataset: CocoDataset, truth: Truth) -> None:
    """Uncompressed and compressed RLE stand for the same square as the polygon."""
    rle = truth(7).to_coco(7)[0]["segmentation"]
    runs: list[int] = [5 * 120 + 5]
    for _ in range(19):
        runs += [20, 100]
    runs += [20, 120 * 120 - sum(runs) - 20]
    for segmentation in (rle, {"size": [120, 120], "counts": runs}):
        first = {**dataset.annotations[0], "segmentation": segmentation}
        same = replace(dataset, annotations=(first, *dataset.annotations[1:]))
        assert coco_metrics(entries(truth), same, "mask")["AP"] == pytest.approx(100.0)
