"""README's commands and Python run, on files of the names that they use; its table is generated.

The example's model has no trained weights here, so the demo's stands in for it, at its own size,
and a few held-out scenes for its pictures; everything else runs as it stands.
"""

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

import maskrt

from .documents import ROOT, blocks_of, run_document

README = ROOT / "README.md"
JETSON = ROOT / "docs" / "jetson.md"
SCENES = 24
STAND_INS = {
    "torchvision:maskrcnn_resnet50_fpn": "maskrt:maskrcnn_scenes",
    "--input-size 512 512": "--input-size 320 320",
    "--max-ap-drop 1.0": "--max-ap-drop 3.0",  # so few scenes make AP coarse
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README names: weights, pictures, annotations."""
    import torch
    from PIL import Image
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
    Image.open(first).convert("RGB").save(folder / "street.jpg")
    return folder


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.rtx
def test_commands_and_python_of_readme_then_those_for_a_jetson(place: Path) -> None:
    commands = re.findall(r"^maskrt (\w+)", "".join(b.text for b in blocks_of(README)), re.M)
    assert commands == ["compile", "check"]
    run_document(README, place, STAND_INS)
    run_document(JETSON, place)
    assert (place / "street.maskrt" / "engines" / "orin-nx" / "prepared.json").is_file()


def test_a_command_that_fails_fails_the_test(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nmaskrt inspect none.maskrt\ntrue\n```\n")
    with pytest.raises(AssertionError, match="does not exist"):
        run_document(page, tmp_path)


def test_a_block_with_a_reason_is_left_out_and_one_with_a_title_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '<!-- not run: why -->\n```sh\nfalse\n```\n```python title="a.py"\nx = 1\n```\n'
        "```sh\npython a.py && touch ran\n```\n"
    )
    run_document(page, tmp_path)
    assert (tmp_path / "ran").is_file()
    assert (tmp_path / "a.py").read_text() == "x = 1\n"


def _supported() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "supported", ROOT / "docs" / "site" / "supported.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_what_is_supported_is_the_generators() -> None:
    text = README.read_text(encoding="utf-8")
    assert _supported().written(text) == text, "python docs/site/supported.py --write"


def test_the_generated_table_has_every_model_and_every_target_of_a_name() -> None:
    table = _supported().table()
    for facts in maskrt.models():
        assert facts.model.endswith("_scenes") or facts.model in table, facts
    named = {facts.target.name for facts in maskrt.targets()}
    shown = set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE))
    assert shown <= named
    assert {name for name in named if not name.startswith("rtx-")} <= shown


def test_every_extra_of_the_package_is_in_readme() -> None:
    tomllib = pytest.importorskip("tomllib")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shown = set(re.findall(r"^\| `(\w+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE))
    developers = {"dev", "test", "docs"}
    assert set(extras["optional-dependencies"]) - developers <= shown


def test_the_demos_table_is_there() -> None:
    page = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    table = page.split("<!-- demo table -->")[1].split("<!-- end of demo table -->")
    for words in ("PyTorch FP32", "INT8", "rtx", "mask AP"):
        assert words in table[0]
