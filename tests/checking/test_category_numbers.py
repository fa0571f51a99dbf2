"""Annotations with categories that a model without class names cannot mean."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maskrt.checking.accuracy import _confidence
from maskrt.checking.category_numbers import BY_FILE, BY_NAME, doubt, numbered
from maskrt.core import InputError, InputSpec
from maskrt.core.bundle import Manifest
from maskrt.runtime.check import CocoDataset
from maskrt.runtime.check.coco import CocoImage
from maskrt.runtime.check.evaluator import CocoEvaluator

_NUMBERED_ALIKE = (
    "background", "person", *["-"] * 11, "Stop sign", *["-"] * 76, "Toothbrush"
)  # fmt: skip
_COCO = {1: "person", 13: "stop sign", 90: "toothbrush"}


def _manifest(labels: int | None, names: tuple[str, ...] | None = None) -> Manifest:
    source: dict[str, Any] = {} if labels is None else {"labels": labels}
    return Manifest("solov2", InputSpec(64, 64), {}, names, source=source)


def _dataset(categories: dict[int, str]) -> CocoDataset:
    return CocoDataset(Path("val.json"), (), categories, ())


def _used(categories: dict[int, str], *used: int) -> CocoDataset:
    entries = tuple({"id": n, "category_id": c} for n, c in enumerate(used, 1))
    return replace(_dataset(categories), annotations=entries)


def test_coco_s_ids_are_not_the_labels_of_a_model_of_80_classes() -> None:
    said = r"val.json has category 90 \('toothbrush'\), and the model's labels are 1 to 80: number"
    with pytest.raises(InputError, match=said):
        numbered(_manifest(80), _used(_COCO, 1, 90))


@pytest.mark.parametrize(
    "manifest",
    [
        _manifest(90),
        _manifest(None),
        _manifest(80, ("background", *map(str, range(80)))),
        _manifest(3, ("background", "person", "stop sign")),  # one of three is not known
        _manifest(3, ("toothbrush", "person", "stop sign")),  # the background is no class
        _manifest(4, ("background", "person", "stop sign", "toothbrush", "Person")),
        _manifest(90, _NUMBERED_ALIKE),
    ],
)
def test_what_may_be_right_is_let_through(manifest: Manifest) -> None:
    """torchvision's models have 90 labels; names are compared elsewhere."""
    dataset = _dataset(_COCO)
    assert numbered(manifest, dataset) is dataset


def test_names_decide_where_each_is_one_label() -> None:
    """As in a YOLO of COCO's 80 classes: its labels have no gaps."""
    entries = tuple({"id": n, "category_id": c} for n, c in enumerate((90, 1, 13, 90), 1))
    dataset = CocoDataset(Path("val.json"), (), _COCO, entries)
    names = ("background", "Person", "stop sign", "car", "toothbrush")
    found = numbered(_manifest(4, names), dataset)
    assert found.categories == {1: "person", 2: "stop sign", 4: "toothbrush"}
    assert [entry["category_id"] for entry in found.annotations] == [4, 1, 2, 4]
    assert [entry["id"] for entry in found.annotations] == [1, 2, 3, 4]
    found.check_labels(names)
    swapped = numbered(_manifest(4, names), CocoDataset(Path("v"), (), {1: "car", 3: "person"}, ()))
    assert swapped.categories == {3: "car", 1: "person"}


@pytest.mark.parametrize(
    "unused",
    [
        {0: "_background_"},  # labelme2coco's
        {0: "shapes"},  # Roboflow: 0 is the project, and no annotation has it
        {-1: "__ignore__"},  # LabelMe's label files
        {91: "hair brush", 7: "ball"},
    ],
)
@pytest.mark.parametrize("names", [None, ("background", "ball", "box")])
def test_categories_that_nothing_uses_stop_no_check(
    unused: dict[int, str], names: tuple[str, ...] | None
) -> None:
    dataset = _used({**unused, 1: "ball", 2: "box"}, 1, 2, 1)
    found = numbered(_manifest(2, names), dataset)
    found.check_labels(names)
    assert [entry["category_id"] for entry in found.annotations] == [1, 2, 1]
    assert found.categories[1] == "ball"
    assert found.numbering == ""


def test_an_unused_category_does_not_keep_names_from_deciding() -> None:
    dataset = _used({0: "_background_", 3: "box", 7: "ball"}, 7, 3)
    found = numbered(_manifest(2, ("background", "ball", "box")), dataset)
    assert found.categories == {1: "ball", 2: "box"}
    assert [entry["category_id"] for entry in found.annotations] == [1, 2]
    assert found.numbering == BY_NAME


def test_what_is_refused_names_the_file_that_helps() -> None:
    names = ("background", "ball", "box")
    for categories in ({5: "ring"}, {2: "ball", 1: "ring"}):
        dataset = _used(categories, *categories)
        with pytest.raises(InputError, match="say which is which in categories="):
            numbered(_manifest(2, names), dataset).check_labels(names)
    with pytest.raises(InputError, match="say which is which in categories="):
        numbered(_manifest(2), _used({0: "ball"}, 0))


def test_a_file_says_which_label_a_category_is() -> None:
    dataset = _used({0: "disc", 7: "crate", 8: "chest", 9: "unused"}, 0, 7, 8)
    chosen = {"disc": "Ball", "7": 2, "chest": "box"}
    names = ("background", "ball", "box")
    found = numbered(_manifest(2, names), replace(dataset, chosen=chosen))
    assert [entry["category_id"] for entry in found.annotations] == [1, 2, 2]
    assert found.categories == {1: "disc", 2: "crate"}
    assert found.numbering == BY_FILE


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"dsic": "ball"}, "names 'dsic', which is no category of val.json"),
        ({"disc": "bll"}, "says that 'disc' is 'bll', which is no class of the model"),
        ({"disc": 3}, "would be label 3, and the model's labels are 1 to 2"),
        ({}, "would be label 0, and the model's labels are 1 to 2"),
    ],
)
def test_a_file_that_cannot_be_meant(chosen: dict[str, str | int], said: str) -> None:
    dataset = replace(_used({0: "disc"}, 0), chosen=chosen)
    with pytest.raises(InputError, match=said):
        numbered(_manifest(2, ("background", "ball", "box")), dataset)


def test_no_ap_without_class_names_is_a_question() -> None:
    dataset = _used({0: "ball", 1: "box"}, 0, 1)
    asked = doubt(_manifest(None), dataset, {"box": {"AP": 0.0}})
    assert "numbered as the data set's categories (0 'ball', 1 'box')?" in asked
    assert "class_names=" in asked
    assert "categories=" in asked
    assert doubt(_manifest(None), dataset, {"box": {"AP": 40.0}}) == ""
    assert doubt(_manifest(None), dataset, {"box": {"AP": None}}) == ""
    assert doubt(_manifest(2, ("background", "ball", "box")), dataset, {"box": {"AP": 0.0}}) == ""


def test_of_crowds_alone_ap_is_undefined_and_that_is_said() -> None:
    dataset = _used({1: "ball"}, 1, 1)
    crowds = tuple({**entry, "iscrowd": 1} for entry in dataset.annotations)
    said = doubt(_manifest(1), replace(dataset, annotations=crowds), {"box": {"AP": None}})
    assert said.startswith("AP is undefined: every annotation of val.json is a crowd")
    one = (*crowds, {**crowds[0], "iscrowd": 0})
    assert doubt(_manifest(1), replace(dataset, annotations=one), {"box": {"AP": 50.0}}) == ""


@pytest.mark.filterwarnings("error")
def test_of_crowds_alone_there_is_no_interval_and_no_warning() -> None:
    crowd = {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [1.0, 1.0, 5.0, 5.0], "area": 25.0,
        "iscrowd": 1, "segmentation": None,
    }  # fmt: skip
    picture = CocoImage(1, Path("1.png"), (10, 10))
    evaluator = CocoEvaluator(CocoDataset(Path("v"), (picture,), {1: "ball"}, (crowd,)), ["box"])
    found = {"image_id": 1, "category_id": 1, "bbox": [1.0, 1.0, 5.0, 5.0], "score": 0.9}
    evaluator.add(1, [found])
    assert evaluator.metrics()["box"]["AP"] is None
    ran: Any = SimpleNamespace(
        reference=SimpleNamespace(evaluator=evaluator), evaluator=evaluator, images=1
    )
    assert _confidence(ran) == {}
