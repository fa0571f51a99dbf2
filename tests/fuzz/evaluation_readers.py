"""Annotation files as a check reads them, to the end: loaded, matched, evaluated against a model.

The seeds are the files of nine tools (`tests/runtime/check/real_exports.py`), the model finds the
same few things in every picture, and the pictures lie where the files say. So damage that loading
lets through meets segmentations, crowds, categories, ids and areas as AP is made of them.
"""

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskrt.checking.category_numbers import doubt, numbered
from maskrt.core import InputSpec, Instances
from maskrt.core.bundle import Manifest
from maskrt.runtime.check import CocoDataset, evaluate

from ..runtime.check.real_exports import CLASSES, EXPORTS, HEIGHT, WIDTH, things
from .damage import as_json
from .reader import Reader

__all__ = ["EVALUATION_READERS"]

_PICTURES = 2
_NAMED = Manifest("test", InputSpec(HEIGHT, WIDTH), {}, ("background", *CLASSES))
_UNNAMED = Manifest("test", InputSpec(HEIGHT, WIDTH), {}, None, source={"labels": len(CLASSES)})


@cache
def _files() -> list[bytes]:
    """Return the nine files, of fewer pictures and objects."""
    shown = [one for one in things() if one.picture < _PICTURES][2:12]
    found = []
    for write in EXPORTS.values():
        data = write(shown)
        data["images"] = data["images"][:_PICTURES]
        found.append(json.dumps(data).encode())
    return found


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder with the pictures of all nine; it goes with the process."""
    made = tempfile.TemporaryDirectory()
    for data in map(json.loads, _files()):
        for image in data["images"]:
            name = image.get("file_name") or Path(image["coco_url"]).name
            picture = Path(made.name, name)
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (WIDTH, HEIGHT)).save(picture, "PPM")  # quick to read, by any name
    return made


@cache
def _found() -> Instances:
    masks = np.zeros((4, HEIGHT, WIDTH), bool)
    for index, mask in enumerate(masks):
        mask[10 + 5 * index : 50 + 5 * index, 20 * index : 20 * index + 45] = True
    boxes = [[20 * n, 10 + 5 * n, 20 * n + 45, 50 + 5 * n] for n in range(4)]
    return Instances(
        np.array(boxes, np.float32), np.array([0.9, 0.9, 0.6, 0.3], np.float32),
        np.array([1, 2, 3, 2]), (HEIGHT, WIDTH), None, masks,
    )  # fmt: skip


def _predict(images: list[np.ndarray]) -> list[Instances]:
    return [_found() for _ in images]


def _evaluate(data: bytes, folder: Path) -> Any:
    file = folder / "a.json"
    file.write_bytes(data)
    manifest = _NAMED if len(data) % 4 else _UNNAMED
    dataset = numbered(manifest, CocoDataset.load(_folder().name, file))
    made = evaluate(_predict, dataset, class_names=manifest.class_names)
    made.evaluator.class_metrics()
    return doubt(manifest, dataset, made.metrics)


EVALUATION_READERS = [Reader("evaluation", _files, _evaluate, as_json, cost=10)]
