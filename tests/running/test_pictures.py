"""`maskrt run` never harms its inputs, and `results.json` means that every picture was done."""

import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from maskrt.cli import main
from maskrt.core import Bundle, InputSpec, Instances, Manifest, UsageError
from maskrt.core.errors import InputError, MaskrtError, StorageError
from maskrt.running import pictures as running
from maskrt.running.pictures import run
from maskrt.runtime import read_image
from maskrt.runtime.stream import Frame


class _OneBox:
    """A session that finds one box in every picture, with a mask if it `has_masks`.

    Its engine fails at a picture of one pixel.
    """

    class_names = ("background", "ball")

    def predict_stream(self, files: list[Path]) -> Iterator[Frame]:
        for index, file in enumerate(files):
            try:
                picture = read_image(file)
            except MaskrtError as error:
                yield Frame(index, file, None, None, error)
                continue
            if picture.size == 3:
                raise MaskrtError("the engine failed.")
            yield Frame(index, file, picture, self.predict(picture))

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
    results = run(bundle.path, [pictures], output)
    assert sorted(_content(output)) == ["a.png", "b.png", "images.json", "results.json"]
    assert json.loads((output / "results.json").read_text()) == results.annotations
    coco = COCO(str(output / "images.json")).loadRes(str(output / "results.json"))
    assert [a["image_id"] for a in coco.dataset["annotations"]] == [1, 2]
    assert [entry["image_id"] for entry in results.annotations] == [1, 2]
    assert results.categories == [{"id": 1, "name": "ball"}]


@pytest.mark.parametrize("bundle", [True], indirect=True)
def test_masks_are_written(bundle: Bundle, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    results = run(bundle, [pictures], tmp_path / "out")
    assert results.annotations[0]["segmentation"]["size"] == [12, 16]


def test_inputs_are_never_overwritten(bundle: Bundle, pictures: Path) -> None:
    before = _content(pictures)
    with pytest.raises(UsageError, match=r"a\.png would overwrite the input picture"):
        run(bundle, [pictures], pictures)
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
        run(bundle, [pictures], output)
    assert _content(pictures) == before
    assert sorted(_content(output)) == ["b.png"]


def test_output_beside_inputs_of_other_names(bundle: Bundle, pictures: Path) -> None:
    """A JPEG becomes a PNG beside it: nothing is overwritten, so nothing is refused."""
    (pictures / "a.png").rename(pictures / "kept.png")
    Image.new("RGB", (16, 12)).save(pictures / "c.jpg")
    before = _content(pictures)
    run(bundle, [pictures / "c.jpg"], pictures)
    after = _content(pictures)
    assert sorted(after.keys() - before.keys()) == ["c.png", "images.json", "results.json"]
    assert {name: after[name] for name in before} == before


def test_an_output_that_is_a_file_is_refused(bundle: Bundle, pictures: Path) -> None:
    with pytest.raises(UsageError, match="is a file"):
        run(bundle, [pictures / "b.png"], pictures / "a.png")


@pytest.mark.parametrize("bundle", [False, True], indirect=True)
def test_no_pycocotools_is_needed(
    bundle: Bundle, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    assert len(run(bundle, [pictures], tmp_path / "out").annotations) == 2


def test_a_failure_in_the_middle_leaves_no_results(
    bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    """Not even those of an earlier run, whose pictures are being overwritten."""
    output = tmp_path / "out"
    run(bundle, [pictures], output)
    Image.new("RGB", (1, 1)).save(pictures / "b.png")
    with pytest.raises(MaskrtError, match="the engine failed"):
        run(bundle, [pictures], output)
    assert sorted(_content(output)) == ["a.png", "b.png"]


def test_a_picture_that_cannot_be_used_is_left_out_and_named(
    bundle: Bundle, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    run(bundle, [pictures], output)
    Image.new("RGB", (16, 12)).save(pictures / "c.png")
    (pictures / "b.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit) as ended:
        main(["run", str(bundle.path), str(pictures), "-o", str(output)])
    assert ended.value.code == 1
    shown = capsys.readouterr().out
    assert "2 instances of score 0.5 or more in 2 pictures:" in shown
    assert f"left out: {pictures / 'b.png'}" in shown.replace("\n", " ")
    assert sorted(_content(output)) == ["a.png", "c.png", "images.json", "results.json"]
    images = json.loads((output / "images.json").read_text())
    assert [Path(row["file_name"]).name for row in images["images"]] == ["a.png", "c.png"]
    assert [row["image_id"] for row in json.loads((output / "results.json").read_text())] == [1, 3]
    assert len(images["skipped"]) == 1


def test_no_picture_that_can_be_used_is_an_error(
    bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    for file in pictures.iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a\.png"):
        run(bundle, [pictures], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failure_at_the_first_picture_touches_nothing(
    bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run(bundle, [pictures], output)
    before = _content(output)
    with pytest.raises(InputError, match="does not exist"):
        run(bundle, [tmp_path / "absent.png"], output)
    assert _content(output) == before


def test_a_full_disk_leaves_no_empty_picture_and_no_half_one(
    bundle: Bundle, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, output = Image.Image.save, tmp_path / "out"

    def fill(self: Image.Image, file: Any, **how: Any) -> None:
        if str(file).endswith("b.png"):
            Path(file).write_bytes(b"")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self, file, **how)

    monkeypatch.setattr(Image.Image, "save", fill)
    with pytest.raises(StorageError, match=r"cannot write .*out/b\.png \(No space left"):
        run(bundle, [pictures], output)
    assert [p.name for p in output.iterdir()] == ["a.png"]
    assert read_image(output / "a.png").shape == (12, 16, 3)
