"""One small compiled bundle, with pictures and annotations, for all tests of the commands."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from maskrt.core import Bundle

from .command_line import run


@pytest.fixture(scope="package")
def work(tmp_path_factory: pytest.TempPathFactory, photos: list[np.ndarray]) -> Path:
    """A folder with weights, pictures, and a compiled INT8 bundle, for this file of tests alone."""
    base, alone = tmp_path_factory.getbasetemp(), "PYTEST_XDIST_WORKER" not in os.environ
    made = (base if alone else base.parent) / "compiled"  # once for all files and processes
    with FileLock(f"{made}.lock"):
        if not made.exists():
            _compile(made.with_suffix(".part"), photos)
            made.with_suffix(".part").rename(made)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("cli") / "work"))


def _compile(folder: Path, photos: list[np.ndarray]) -> None:
    import torch

    from ..export.detectors import enliven, tiny_mask_rcnn

    (folder / "pictures").mkdir(parents=True)
    torch.manual_seed(0)
    model = enliven(tiny_mask_rcnn(), photos)
    torch.save(model.state_dict(), folder / "tiny.pth")
    for index, photo in enumerate(photos):
        Image.fromarray(photo).save(folder / "pictures" / f"{index}.png")
    assert (
        run("compile", "tests.export.detectors:tiny_mask_rcnn", "-o", folder / "tiny.maskrt",
            "--weights", folder / "tiny.pth", "--input-size", 128, 160,
            "--calibration", folder / "pictures", "--precision", "int8")
        == 0
    )  # fmt: skip
    _annotate(folder)


def _annotate(folder: Path) -> None:
    """Write the FP32 model's own findings as annotations: its AP is then 100."""
    from maskrt.checking.references import canonical_session

    files = sorted((folder / "pictures").iterdir())
    images, annotations = [], []
    with canonical_session(Bundle.open(folder / "tiny.maskrt")) as session:
        for number, file in enumerate(files, 1):
            found = session.predict(file)
            height, width = found.image_size
            images.append({"id": number, "file_name": file.name, "height": height, "width": width})
            for entry in found.to_coco(number):
                _, _, w, h = entry["bbox"]
                entry |= {"id": len(annotations) + 1, "iscrowd": 0, "area": w * h}
                annotations.append(entry)
    categories = [{"id": i, "name": str(i)} for i in range(1, 5)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(data))
