"""Annotations with categories that a model without class names cannot mean."""

from pathlib import Path
from typing import Any

import pytest

from maskrt.checking.category_numbers import check_numbering
from maskrt.core import InputError, InputSpec
from maskrt.core.bundle import Manifest
from maskrt.runtime.check import CocoDataset

_COCO = {1: "person", 13: "stop sign", 90: "toothbrush"}


def _manifest(labels: int | None, names: tuple[str, ...] | None = None) -> Manifest:
    source: dict[str, Any] = {} if labels is None else {"labels": labels}
    return Manifest("solov2", InputSpec(64, 64), {}, names, source=source)


def _dataset(categories: dict[int, str]) -> CocoDataset:
    return CocoDataset(Path("val.json"), (), categories, ())


def test_coco_s_ids_are_not_the_labels_of_a_model_of_80_classes() -> None:
    said = r"val.json has category 90 \('toothbrush'\), and the model's labels are 1 to 80: number"
    with pytest.raises(InputError, match=said):
        check_numbering(_manifest(80), _dataset(_COCO))


@pytest.mark.parametrize(
    "manifest",
    [_manifest(90), _manifest(None), _manifest(80, ("background", *map(str, range(80))))],
)
def test_what_may_be_right_is_let_through(manifest: Manifest) -> None:
    """torchvision's models have 90 labels; names are compared elsewhere."""
    check_numbering(manifest, _dataset(_COCO))
