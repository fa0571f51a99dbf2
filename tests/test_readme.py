"""The README's commands and Python run as they stand, on files of the names that they use."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

README = Path(__file__).resolve().parent.parent / "README.md"
pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.rtx]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def _commands() -> list[list[str]]:
    lines = "\n".join(_blocks("sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("maskrt ")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, photos: list[np.ndarray]) -> Path:
    """A folder with the files that the README names: weights, pictures, annotations."""
    import torch
    import torchvision

    folder = tmp_path_factory.mktemp("readme")
    torch.manual_seed(0)
    model = torchvision.models.detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    torch.save(model.state_dict(), folder / "maskrcnn.pth")
    images, annotations = [], []
    for name in ("pictures", "val"):
        (folder / name).mkdir()
    for number, photo in enumerate(photos, 1):
        for name in ("pictures", "val"):
            Image.fromarray(photo).save(folder / name / f"{number}.jpg")
        height, width = photo.shape[:2]
        images.append({"id": number, "file_name": f"{number}.jpg", "height": height,
                       "width": width})  # fmt: skip
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [10, 10, 50, 60],
             "area": 3000, "iscrowd": 0, "segmentation": [[10, 10, 60, 10, 60, 70, 10, 70]]}
        )  # fmt: skip
    Image.fromarray(photos[0]).save(folder / "street.jpg")
    data = {"images": images, "annotations": annotations,
            "categories": [{"id": 1, "name": "person"}]}  # fmt: skip
    (folder / "val.json").write_text(json.dumps(data))
    (folder / "val").joinpath("annotations.json").write_text(json.dumps(data))
    return folder


def test_commands_then_python(place: Path) -> None:
    commands = _commands()
    assert {c[1] for c in commands} == {"compile", "run", "check", "inspect"}
    for command in commands:
        result = subprocess.run(
            [sys.executable, "-m", *command], cwd=place, capture_output=True, text=True
        )
        assert result.returncode == 0, (command, result.stderr)
    (code,) = _blocks("python")
    shorter = code.replace('"cpu", "rtx"', '"cpu"')  # the command above has just built rtx
    assert shorter != code
    result = subprocess.run(
        [sys.executable, "-c", shorter], cwd=place, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_table_is_there() -> None:
    table = README.read_text().split("<!-- demo table -->")[1].split("<!-- end of demo table -->")
    for words in ("PyTorch FP32", "INT8", "rtx", "mask AP"):
        assert words in table[0]
