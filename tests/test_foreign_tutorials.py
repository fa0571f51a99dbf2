"""Tutorials that begin with other projects' files: their commands run as they stand.

Files that are written as those projects write them stand in: the checkpoints and ONNX files of
`tests/export`, with random weights.
"""

import ast
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .documents import ROOT, run_document

START = ROOT / "docs" / "start"
SMALL = (96, 128)
pytestmark = [pytest.mark.torch, pytest.mark.rtx]


def _pictures(photos: Sequence[np.ndarray], place: Path, names: Sequence[str]) -> None:
    """Write the photographs into folders."""
    for name in names:
        (place / name).mkdir()
        for index, photo in enumerate(photos):
            Image.fromarray(photo[:256, :320]).save(place / name / f"{index}.png")


def _annotations(photos: Sequence[np.ndarray], file: Path, names: Sequence[str]) -> None:
    """Write a box of the first category for each photograph."""
    images = [
        {"id": i + 1, "file_name": f"{i}.png", "height": 256, "width": 320}
        for i in range(len(photos))
    ]
    box = [20.0, 30.0, 80.0, 60.0]
    corners = [20, 30, 100, 30, 100, 90, 20, 90]
    found = [
        {"id": i["id"], "image_id": i["id"], "category_id": 1, "bbox": box, "area": 4800.0,
         "iscrowd": 0, "segmentation": [corners]} for i in images
    ]  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    file.write_text(json.dumps({"images": images, "annotations": found, "categories": categories}))


def _trained(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, Any]:
    """Return weights of these names as initialisation leaves them: signals keep their size."""
    import torch

    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes:
        if len(shape) >= 2:
            deviation = (2 / math.prod(shape[1:])) ** 0.5
            state[name] = torch.randn(shape, generator=generator) * deviation
        else:
            norm = re.search(r"(norm|bn\d|downsample\.1|gn)\.weight$|running_var$", name)
            state[name] = torch.ones(shape) if norm else torch.zeros(shape)
    return state


def _detectron2(photos: Sequence[np.ndarray], place: Path) -> None:
    """A training folder of full width and an export of a small model, as detectron2 leaves them."""
    from .export.checkpoint import layouts
    from .export.families.published import mask_rcnn_detectron2
    from .export.surgery.foreign import lively_detector
    from .export.surgery.test_detectron2 import _written

    (place / "output").mkdir()
    shapes = [s for s in mask_rcnn_detectron2(4) if not re.search("anchor_generator|pixel_", s[0])]
    layouts.detectron2(_trained(shapes), place / "output" / "model_final.pth")
    model, shown = lively_detector(photos, SMALL, num_classes=4)
    _written(model, shown, place / "model.onnx", 17, SMALL)
    _annotations(photos, place / "val.json", ("car", "bus", "truck"))
    _pictures(photos, place, ("pictures", "val"))


def _mmdetection(photos: Sequence[np.ndarray], place: Path) -> None:
    """A SOLOv2 of full width as mmengine saves it, and an export of a small model by mmdeploy."""
    from .export.checkpoint import layouts
    from .export.families.test_grid_checkpoints import _solov2_mmdet
    from .export.surgery.test_mmdeploy import _export

    (place / "work_dirs" / "solov2").mkdir(parents=True)
    scores = "mask_head.conv_cls."
    shapes = [(n, (3, *s[1:]) if n.startswith(scores) else s) for n, s in _solov2_mmdet()]
    state = _trained(shapes)
    state["mask_head.conv_cls.bias"] -= 3.0  # so that few of the cells are sure
    layouts.mmengine(state, place / "work_dirs" / "solov2" / "epoch_12.pth")
    _export(photos, place / "deployed", {"num_classes": 4}, 17)
    _annotations(photos, place / "val.json", ("car", "bus", "truck"))
    _pictures(photos, place, ("pictures", "val"))


def _yolo_seg(photos: Sequence[np.ndarray], place: Path) -> None:
    """The head of YOLO11-seg on a small backbone, with the metadata of ultralytics."""
    import onnx

    from .export.surgery.one_pass_files import yolo11_file

    model = yolo11_file()
    onnx.save(model, place / "yolo11n-seg.onnx")
    names = ast.literal_eval(
        next(entry.value for entry in model.metadata_props if entry.key == "names")
    )
    _annotations(photos, place / "annotations.json", list(names.values()))
    _pictures(photos, place, ("pictures",))


PREPARE: dict[str, Callable[[Sequence[np.ndarray], Path], None]] = {
    "from_detectron2": _detectron2, "from_mmdetection": _mmdetection, "yolo_seg": _yolo_seg,
}  # fmt: skip
# Random weights have no AP to lose, smaller canvases are quicker, and `test_tutorials` prepares.
STAND_INS = {
    "from_detectron2": {
        "--input-size 256 320": "--input-size 128 160", " --max-ap-drop 1.0": "",
        "maskrt build street.maskrt --target orin-nx ": "",
    },
    "from_mmdetection": {"--input-size 256 384": "--input-size 128 192", " --max-ap-drop 1.0": ""},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("page", PREPARE)
def test_a_tutorial_runs_as_it_stands(page: str, photos: list[np.ndarray], tmp_path: Path) -> None:
    PREPARE[page](photos, tmp_path)
    run_document(START / f"{page}.md", tmp_path, STAND_INS.get(page))
