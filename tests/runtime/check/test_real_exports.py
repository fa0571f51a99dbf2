"""The COCO files of nine tools: read, matched with labels, and scored as pycocotools scores.

The model's detections are drawn about the objects. pycocotools gets the file as the tool wrote it,
but for annotation ids from 0, of which it loses the first.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskrt.checking.category_numbers import numbered
from maskrt.core import InputSpec
from maskrt.core.bundle import Manifest
from maskrt.runtime.check import CocoDataset, coco_metrics

from .real_exports import CLASSES, EXPORTS, HEIGHT, WIDTH, things
from .test_against_pycocotools import plainly, same

NAMES = ("background", *CLASSES)
_FROM_ZERO = ("Roboflow", "LabelMe", "panopticapi", "VisDrone")
_BOXES_ALONE = ("VisDrone",)


def _written(name: str, folder: Path) -> tuple[dict[str, Any], Path]:
    data = EXPORTS[name](things())
    file = folder / "annotations.json"
    file.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    for image in data["images"]:
        picture = folder / image.get("file_name", Path(image.get("coco_url", "")).name)
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(picture)
    return data, file


def _results(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return detections about the objects, under the file's own category ids."""
    dice = np.random.default_rng(3)
    pictures = [image["id"] for image in data["images"]]
    kinds = {entry["name"]: entry["id"] for entry in data["categories"]}
    found = []
    for one in things():
        plane = coco_mask.decode(one.rle)
        for _ in range(int(dice.integers(0, 3))):
            moved = np.roll(plane, dice.integers(-4, 5, 2), (0, 1))
            rle = coco_mask.encode(np.asfortranarray(moved))
            kind = one.kind if dice.uniform() < 0.8 else int(dice.integers(3))
            found.append({
                "image_id": pictures[one.picture], "category_id": kinds[CLASSES[kind]],
                "bbox": [float(v) for v in coco_mask.toBbox(rle)],
                "score": float(dice.integers(1, 20)) / 20,
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
            })  # fmt: skip
    return found


def _from_one(data: dict[str, Any]) -> dict[str, Any]:
    entries = [{"iscrowd": 0, **e, "id": n} for n, e in enumerate(data["annotations"], 1)]
    return {**data, "annotations": entries}


def _labelled(results: list[dict[str, Any]], data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the same as the model says it: its labels are its own, 1 to 3."""
    names = {entry["id"]: entry["name"] for entry in data["categories"]}
    return [{**r, "category_id": NAMES.index(names[r["category_id"]])} for r in results]


@pytest.mark.parametrize("name", EXPORTS)
@pytest.mark.parametrize("kind", ["box", "mask"])
def test_ap_is_pycocotools_own(name: str, kind: Any, tmp_path: Path) -> None:
    data, file = _written(name, tmp_path)
    manifest = Manifest("test", InputSpec(HEIGHT, WIDTH), {}, NAMES)
    dataset = numbered(manifest, CocoDataset.load(tmp_path, file))
    assert dataset.has_masks is (name not in _BOXES_ALONE)
    if kind == "mask" and not dataset.has_masks:
        pytest.skip("it has boxes alone")
    results = _results(data)
    expected = plainly(_from_one(data), results, kind)
    assert 10 < expected[0] < 90
    ours = _labelled(results, data)
    dataset.check_labels(NAMES)
    same(coco_metrics(ours, dataset, kind), expected)


@pytest.mark.parametrize("name", _FROM_ZERO)
def test_pycocotools_loses_an_annotation_of_these(name: str, tmp_path: Path) -> None:
    """So its own number is no reference for the file as it stands."""
    data, _ = _written(name, tmp_path)
    perfect = [
        {**{key: e[key] for key in ("image_id", "category_id", "bbox")}, "score": 1.0}
        for e in data["annotations"] if not e.get("iscrowd")
    ]  # fmt: skip
    perfect = [{**r, "segmentation": None} for r in perfect]
    dataset = CocoDataset.load(tmp_path, tmp_path / "annotations.json")
    assert coco_metrics(perfect, dataset, "box")["AP"] == pytest.approx(100)
    assert plainly(data, perfect, "box")[0] < 99.9


def test_every_tool_of_the_docs_is_here() -> None:
    text = (Path(__file__).parents[3] / "docs/check.md").read_text()
    for name in EXPORTS:
        assert name in text, name
