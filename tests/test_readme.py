"""The README's commands and Python run, on files of the names that they use.

The example's model has no trained weights here, so the demo's stands in for it, at its own size,
and a few held-out scenes for its pictures; everything else runs as it stands.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
SCENES = 24
STAND_INS = {
    "torchvision:maskrcnn_resnet50_fpn": "maskrt:maskrcnn_scenes",
    "--input-size 512 512": "--input-size 320 320",
    "input_size=(512, 512)": "input_size=(320, 320)",
    "--max-ap-drop 1.0": "--max-ap-drop 3.0",  # so few scenes make AP coarse
}
pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.rtx]


def _blocks(language: str) -> list[str]:
    text = README.read_text(encoding="utf-8")
    for original, stand_in in STAND_INS.items():
        assert original in text
        text = text.replace(original, stand_in)
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def _commands() -> list[list[str]]:
    lines = "\n".join(_blocks("sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("maskrt ")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README names: weights, pictures, annotations."""
    import torch
    from safetensors.torch import load_file

    from maskrt.demo import weights_path
    from maskrt.demo.scenes import write_coco

    folder = tmp_path_factory.mktemp("readme")
    torch.save(load_file(str(weights_path())), folder / "maskrcnn.pth")
    annotations = write_coco(folder / "scenes", SCENES, split="val", size=(320, 320))
    shutil.copy(annotations, folder / "val.json")
    for name in ("pictures", "val"):
        shutil.copytree(annotations.parent / "images", folder / name)
    first = sorted((folder / "val").iterdir())[0]
    from PIL import Image

    Image.open(first).convert("RGB").save(folder / "street.jpg")
    return folder


def test_commands_then_python(place: Path) -> None:
    commands = _commands()
    assert [c[1] for c in commands] == [
        "compile", "run", "check", "inspect", "targets", "build", "check",
    ]  # fmt: skip
    for command in commands:
        result = subprocess.run(
            [sys.executable, "-m", *command], cwd=place, capture_output=True, text=True
        )
        assert result.returncode == 0, (command, result.stderr)
    (code,) = _blocks("python")
    result = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_table_is_there() -> None:
    table = README.read_text().split("<!-- demo table -->")[1].split("<!-- end of demo table -->")
    for words in ("PyTorch FP32", "INT8", "rtx", "mask AP"):
        assert words in table[0]
