"""Annotations with categories that a model without class names cannot mean."""

from pathlib import Path
from typing import Any

import pytest

from maskrt.checking.category_numbers import numbered
from maskrt.core import InputError, InputSpec
from maskrt.core.bundle import Manifest
from maskrt.runtime.check import CocoDataset

_NUMBERED_ALIKE = (
    "background", "person", *["-"] * 11, "Stop sign", *["-"] * 76, "Toothbrush"
)  # fmt: skip
_COCO = {1: "person", 13: "stop sign", 90: "toothbrush"}


def _manifest(labels: int | None, names: tuple[str, ...] | None = None) -> Manifest:
    source: dict[str, Any] = {} if labels is None else {"labels": labels}
    return Manifest("solov2", InputSpec(64, 64), {}, names, source=source)


def _dataset(categories: dict[int, str]) -> CocoDataset:
    return CocoDataset(Path("val.json"), (), categories, ())


def test_coco_s_ids_are_not_the_labels_of_a_model_of_80_classes() -> None:
    said = r"val.json has category 90 \('toothbrush'\), and the model's labels are 1 to 80: number"
    with pytest.raises(InputError, match=said):
        numbered(_manifest(80), _dataset(_COCO))


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
