"""A small annotated data set: squares on black, in a folder of PNG files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrt.core import Instances
from maskrt.runtime.check import CocoDataset

SIDE = 120
SQUARES = {  # picture id → (category, x, y, side): small, medium and large by COCO's areas
    7: [(1, 5, 5, 20), (2, 40, 40, 60)],
    8: [(1, 10, 10, 100), (2, 90, 90, 20)],
    9: [],
    12: [(1, 50, 20, 40)],
}


def coco_json() -> dict[str, Any]:
    """Return the annotations; the first has id 0, as real files sometimes do."""
    annotations = [
        {
            "image_id": picture,
            "category_id": category,
            "bbox": [x, y, side, side],
            "area": side * side,
            "iscrowd": 0,
            "segmentation": [[x, y, x + side, y, x + side, y + side, x, y + side]],
        }
        for picture, squares in SQUARES.items()
        for category, x, y, side in squares
    ]
    names = ((1, "disc"), (2, "square"))
    return {
        "images": [
            {"id": key, "file_name": f"{key}.png", "height": SIDE, "width": SIDE} for key in SQUARES
        ],
        "categories": [{"id": number, "name": name} for number, name in names],
        "annotations": [{"id": number, **a} for number, a in enumerate(annotations)],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `pictures/` and `val.json`."""
    (tmp_path / "pictures").mkdir()
    for key in SQUARES:
        shade = np.full((SIDE, SIDE, 3), key * 10, np.uint8)
        Image.fromarray(shade).save(tmp_path / "pictures" / f"{key}.png")
    (tmp_path / "val.json").write_text(json.dumps(coco_json()))
    return tmp_path


@pytest.fixture
def dataset(folder: Path) -> CocoDataset:
    return CocoDataset.load(folder / "pictures", folder / "val.json")


@pytest.fixture
def truth() -> Callable[..., Instances]:
    """Return a function that makes the perfect instances of a picture, on request disturbed."""

    def make(picture: int, *, shift: float = 0.0, keep: int = 99, masks: bool = True) -> Instances:
        squares = SQUARES[picture][:keep]
        boxes = np.array([[x, y, x + s, y + s] for _, x, y, s in squares], np.float32)
        planes = np.zeros((len(squares), SIDE, SIDE), bool)
        for plane, (_, x, y, s) in zip(planes, squares, strict=True):
            plane[y : y + s, x : x + s] = True
        return Instances(
            boxes.reshape(-1, 4) + np.float32(shift),
            np.linspace(0.9, 0.6, len(squares), dtype=np.float32),
            np.array([c for c, *_ in squares], np.int64),
            (SIDE, SIDE),
            masks_source=planes if masks else None,
        )

    return make
