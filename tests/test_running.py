"""`maskrt run` never harms its inputs, and `results.json` means that every picture was done."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from maskrt import running
from maskrt.core import Bundle, InputSpec, Instances, Manifest, UsageError
from maskrt.core.errors import InputError
from maskrt.running import run_pictures


class _OneBox:
    """A session that finds one box in every picture, with a mask if it `has_masks`."""

    class_names = ("background", "ball")

    def __init__(self, has_masks: bool) -> None:
        self._has_masks = has_masks

    def __enter__(self) -> "_OneBox":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def predict(self, picture: np.ndarray) -> Instances:
        size = (picture.shape[0], picture.shape[1])
        return Instances(
            boxes=np.array([[1, 2, 5, 7]], np.float32),
            scores=np.array([0.75], np.float32),
            labels=np.array([1]),
            image_size=size,
            class_names=self.class_names,
            masks_source=np.ones((1, *size), bool) if self._has_masks else None,
        )


@pytest.fixture(params=[False], ids=["boxes"])
def bundle(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle whose engine is `_OneBox`; parametrise indirectly with True for masks."""
    outputs: dict[str, tuple[int, ...]] = {"boxes": (1, 1, 4), "count": (1,)}
    if request.param:
        outputs["masks"] = (1, 1, 28, 28)
    path = tmp_path / "tiny.maskrt"
    with Bundle.create(path, Manifest("test", InputSpec(64, 64), outputs)):
        pass
    monkeypatch.setattr(running, "open_session", lambda *_, **__: _OneBox(request.param))
    return Bundle.open(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pics"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (16, 12), (200, 10, 10)).save(folder / name)
    return folder


def _content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_pictures_and_results_are_written(bundle: Bundle, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "out"
    results = run_pictures(bundle.path, [pictures], output)
    assert sorted(_content(output)) == ["a.png", "b.png", "images.json", "results.json"]
    assert json.loads((output / "results.json").read_text()) == results["annotations"]
    coco = COCO(str(output / "images.json")).loadRes(str(output / "results.json"))
    assert [a["image_id"] for a in coco.dataset["annotations"]] == [1, 2]
    assert [entry["image_id"] for entry in results["annotations"]] == [1, 2]
    assert results["categories"] == [{"id": 1, "name": "ball"}]


@pytest.mark.parametrize("bundle", [True], indirect=True)
def test_masks_are_written(bundle: Bundle, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    results = run_pictures(bundle, [pictures], tmp_path / "out")
    assert results["annotations"][0]["segmentation"]["size"] == [12, 16]


def test_inputs_are_never_overwritten(bundle: Bundle, pictures: Path) -> None:
    before = _content(pictures)
    with pytest.raises(UsageError, match=r"a\.png would overwrite the input picture"):
        run_pictures(bundle, [pictures], pictures)
    assert _content(pictures) == before


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_inputs_are_known_behind_links(
    bundle: Bundle, pictures: Path, tmp_path: Path, link: Any
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    link(pictures / "b.png", output / "b.png")
    before = _content(pictures)
    with pytest.raises(UsageError, match=r"b\.png would overwrite the input picture"):
        run_pictures(bundle, [pictures], output)
    assert _content(pictures) == before
    assert sorted(_content(output)) == ["b.png"]


def test_output_beside_inputs_of_other_names(bundle: Bundle, pictures: Path) -> None:
    """A JPEG becomes a PNG beside it: nothing is overwritten, so nothing is refused."""
    (pictures / "a.png").rename(pictures / "kept.png")
    Image.new("RGB", (16, 12)).save(pictures / "c.jpg")
    before = _content(pictures)
    run_pictures(bundle, [pictures / "c.jpg"], pictures)
    after = _content(pictures)
    assert sorted(after.keys() - before.keys()) == ["c.png", "images.json", "results.json"]
    assert {name: after[name] for name in before} == before


def test_an_output_that_is_a_file_is_refused(bundle: Bundle, pictures: Path) -> None:
    with pytest.raises(UsageError, match="is a file"):
        run_pictures(bundle, [pictures / "b.png"], pictures / "a.png")


@pytest.mark.parametrize("bundle", [False, True], indirect=True)
def test_no_pycocotools_is_needed(
    bundle: Bundle, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    assert len(run_pictures(bundle, [pictures], tmp_path / "out")["annotations"]) == 2


def test_a_failure_in_the_middle_leaves_no_results(
    bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    """Not even those of an earlier run, whose pictures are being overwritten."""
    output = tmp_path / "out"
    run_pictures(bundle, [pictures], output)
    (pictures / "b.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"b\.png"):
        run_pictures(bundle, [pictures], output)
    assert sorted(_content(output)) == ["a.png", "b.png"]


def test_a_failure_at_the_first_picture_touches_nothing(
    bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run_pictures(bundle, [pictures], output)
    before = _content(output)
    with pytest.raises(InputError, match="does not exist"):
        run_pictures(bundle, [tmp_path / "absent.png"], output)
    assert _content(output) == before
