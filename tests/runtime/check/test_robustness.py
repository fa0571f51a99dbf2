"""Everything that annotation files and engines do wrong is handled, or refused in one sentence."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskrt.core import InputError, InputSpec, Instances, PrecisionError
from maskrt.runtime import NullBackend, Session
from maskrt.runtime.check import METRICS, CocoDataset, CocoEvaluator, evaluate

from .conftest import coco_json

pytest.importorskip("pycocotools")

Truth = Callable[..., Instances]


def reload(folder: Path, data: dict[str, Any]) -> CocoDataset:
    (folder / "edited.json").write_text(json.dumps(data))
    return CocoDataset.load(folder / "pictures", folder / "edited.json")


def one_sentence(error: pytest.ExceptionInfo) -> None:
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text


def test_empty_annotations_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="no annotations, so there is no AP") as error:
        reload(folder, {**coco_json(), "annotations": []})
    one_sentence(error)


def test_no_pictures_at_all_are_refused(folder: Path) -> None:
    with pytest.raises(InputError) as error:
        reload(folder, {**coco_json(), "images": [], "annotations": []})
    one_sentence(error)


def test_a_listed_picture_that_is_missing_is_named(folder: Path) -> None:
    (folder / "pictures" / "8.png").unlink()
    with pytest.raises(InputError, match=r"1 of the 4 pictures .* missing.*8\.png") as error:
        reload(folder, coco_json())
    one_sentence(error)


def test_categories_that_are_not_the_models(dataset: CocoDataset) -> None:
    with pytest.raises(InputError, match="number the categories as the model was trained") as error:
        dataset.check_labels(("background", "square", "disc"))
    one_sentence(error)


def test_a_category_without_annotations_has_no_ap_and_changes_none(
    folder: Path, dataset: CocoDataset, truth: Truth
) -> None:
    data = coco_json()
    data["categories"].append({"id": 3, "name": "ring"})
    wider = reload(folder, data)
    found = [CocoEvaluator(kind, ("box",)) for kind in (dataset, wider)]
    for evaluator in found:
        for image in dataset.images:
            evaluator.add(image.id, truth(image.id).to_coco(image.id))
    assert found[0].metrics() == found[1].metrics()
    assert "ring" not in found[1].class_metrics()["box"]


def test_a_crowd_swallows_detections_and_need_not_be_found(folder: Path, truth: Truth) -> None:
    data = coco_json()
    crowd = {
        "id": 99, "image_id": 9, "category_id": 1, "bbox": [0, 0, 120, 120], "area": 120 * 120,
        "iscrowd": 1, "segmentation": {"size": [120, 120], "counts": [0, 120 * 120]},
    }  # fmt: skip
    data["annotations"].append(crowd)
    evaluator = CocoEvaluator(reload(folder, data), ("box", "mask", "boundary"))
    for image in evaluator.dataset.images:
        # Picture 9 has the crowd alone: three detections inside it are neither true nor false.
        source = 7 if image.id == 9 else image.id
        entries = truth(source).to_coco(image.id)
        inside = [{**e, "category_id": 1} for e in entries] if image.id == 9 else entries
        evaluator.add(image.id, inside)
    for kind in ("box", "mask"):
        assert evaluator.metrics()[kind]["AP"] == pytest.approx(100.0)


def test_polygons_and_both_rles_are_one_thing(folder: Path, truth: Truth) -> None:
    compressed = truth(12).to_coco(12)[0]["segmentation"]
    x, y, side = 50, 20, 40
    runs = [x * 120 + y, *([side, 120 - side] * (side - 1)), side]
    runs.append(120 * 120 - sum(runs))
    numbers = []
    for segmentation in (compressed, {"size": [120, 120], "counts": runs}, None):
        data = coco_json()
        if segmentation is not None:
            data["annotations"][-1]["segmentation"] = segmentation
        evaluator = CocoEvaluator(reload(folder, data), ("box", "mask", "boundary"))
        for image in evaluator.dataset.images:
            evaluator.add(image.id, truth(image.id, shift=3.0).to_coco(image.id))
        numbers.append(evaluator.metrics())
    assert numbers[0] == numbers[1] == numbers[2]


@pytest.mark.parametrize(
    "segmentation",
    [{"size": [120, 120], "counts": [5, 5]}, {"size": [60, 120], "counts": [7200]}, [[1, 2, 3, 4]]],
)
def test_segmentations_that_do_not_fit_are_named(folder: Path, segmentation: Any) -> None:
    data = coco_json()
    data["annotations"][0]["segmentation"] = segmentation
    with pytest.raises(InputError, match="no valid segmentation, the first is in picture 7") as e:
        CocoEvaluator(reload(folder, data), ("box", "mask"))
    one_sentence(e)


def test_zero_detections_are_an_ap_of_zero(dataset: CocoDataset) -> None:
    evaluator = CocoEvaluator(dataset, ("box", "mask", "boundary"))
    for kind, values in evaluator.metrics().items():
        assert {name: values[name] for name in METRICS} == dict.fromkeys(METRICS, 0.0), kind
    assert evaluator.metrics()["boundary"]["F"] is None


@pytest.mark.parametrize("field", ["score", "bbox"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_results_that_are_not_finite_are_refused(
    dataset: CocoDataset, truth: Truth, field: str, value: float
) -> None:
    (entry, *_) = truth(7).to_coco(7)
    broken = {**entry, field: value if field == "score" else [1.0, 2.0, value, 4.0]}
    with pytest.raises(InputError, match="picture 7 has a box or score that is not a finite") as e:
        CocoEvaluator(dataset, ("box",)).add(7, [broken])
    one_sentence(e)


def test_an_engine_with_nan_scores_is_refused(dataset: CocoDataset) -> None:
    class Broken(NullBackend):
        def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().run(images)
            outputs["scores"][:] = np.nan
            outputs["count"][:] = 1
            return outputs

    outputs = {"boxes": (1, 4, 4), "scores": (1, 4), "labels": (1, 4), "count": (1,)}
    with (
        Session(Broken(outputs), InputSpec(64, 64)) as session,
        pytest.raises(PrecisionError, match="not finite numbers") as error,
    ):
        evaluate(session.predict, dataset)
    one_sentence(error)


def test_a_picture_twice_or_from_elsewhere(dataset: CocoDataset) -> None:
    evaluator = CocoEvaluator(dataset, ("box",))
    evaluator.add(7, ())
    with pytest.raises(InputError, match="picture 7 came twice"):
        evaluator.add(7, ())
    with pytest.raises(InputError, match="picture 70 is not in the data set"):
        evaluator.add(70, ())


def test_annotation_numbers_that_are_not_finite(folder: Path) -> None:
    data = coco_json()
    data["annotations"][0]["bbox"] = [1, 2, float("nan"), 4]
    with pytest.raises(InputError, match="a bbox of four finite numbers") as error:
        reload(folder, data)
    one_sentence(error)


def test_a_set_of_nothing_but_crowds_has_no_ap(dataset: CocoDataset) -> None:
    crowds = tuple({**entry, "iscrowd": 1} for entry in dataset.annotations)
    evaluator = CocoEvaluator(replace(dataset, annotations=crowds), ("box",))
    assert evaluator.metrics()["box"]["AP"] is None
