"""A data set is read whole, or refused in one sentence that names the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskrt.core import InputError
from maskrt.runtime.check import CocoDataset

Edit = Callable[[dict[str, Any]], Any]


def edited(folder: Path, edit: Edit) -> Path:
    data = json.loads((folder / "val.json").read_text())
    edit(data)
    (folder / "edited.json").write_text(json.dumps(data))
    return folder / "edited.json"


def test_load(folder: Path, dataset: CocoDataset) -> None:
    assert [image.id for image in dataset.images] == [7, 8, 9, 12]
    assert dataset.images[0].path == folder / "pictures" / "7.png"
    assert dataset.images[0].size == (120, 120)
    assert dataset.categories == {1: "disc", 2: "square"}
    assert [entry["id"] for entry in dataset.annotations] == [1, 2, 3, 4, 5]  # 0 is never found
    assert dataset.has_masks


def test_area_and_iscrowd_may_be_absent(folder: Path) -> None:
    def strip(data: dict[str, Any]) -> None:
        for entry in data["annotations"]:
            del entry["area"], entry["iscrowd"], entry["id"]

    loaded = CocoDataset.load(folder / "pictures", edited(folder, strip))
    assert loaded.annotations[0]["area"] == 400
    assert loaded.annotations[0]["iscrowd"] == 0


def test_box_only_annotations(folder: Path) -> None:
    def strip(data: dict[str, Any]) -> None:
        for entry in data["annotations"]:
            del entry["segmentation"]

    assert not CocoDataset.load(folder / "pictures", edited(folder, strip)).has_masks


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda d: d["annotations"].clear(), "has no annotations"),
        (lambda d: d.pop("annotations"), "has no list annotations"),
        (lambda d: d.pop("images"), "has no list images"),
        (
            lambda d: d["images"][0].pop("height"),
            r"entry 0 of images .*a height and",
        ),
        (lambda d: d["images"].append("x"), r"entry \d+ of images in .* cannot be read"),
        (
            lambda d: d["annotations"][0].update(bbox=[1, 2]),
            "entry 0 of annotations .* a bbox",
        ),
        (
            lambda d: d["annotations"][0].update(bbox=None),
            "entry 0 of annotations .* a bbox",
        ),
        (lambda d: d["annotations"][0].update(image_id=99), "annotates picture 99"),
        (lambda d: d["annotations"][0].update(category_id=5), "uses category 5"),
        (lambda d: d["images"][1].update(id=7), "same id"),
        (lambda d: d["annotations"][0].update(image_id=2**64), "entry 0 of annotations"),
        (lambda d: d["images"][0].update(id=2**63), "entry 0 of images"),
        (lambda d: d["categories"][0].update(id=-(2**70)), "entry 0 of categories"),
        (lambda d: d["annotations"][0].update(category_id=float("inf")), "entry 0 of annotations"),
        (lambda d: d["images"][1].update(file_name="x" * 5000), "1 of the 4 pictures"),
        (lambda d: d["images"][1].update(file_name="\ud800.png"), "lone surrogate"),
        (lambda d: d["categories"][0].update(id=["x" * 50_000]), "entry 0 of categories"),
        (lambda d: d["images"][1].update(file_name="a\0.png"), "entry 1 of images"),
        (lambda d: d["images"][1].update(file_name="x.png"), r"1 of the 4 pictures .*x\.png"),
    ],
)
def test_bad_content_is_one_sentence(folder: Path, edit: Edit, why: str) -> None:
    with pytest.raises(InputError, match=why) as error:
        CocoDataset.load(folder / "pictures", edited(folder, edit))
    text = str(error.value)
    assert "edited.json" in text
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 1000 + 2 * len(str(folder))


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00", b"[1, 2]", b"3"])
def test_bad_json(folder: Path, content: bytes) -> None:
    (folder / "bad.json").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.json"):
        CocoDataset.load(folder / "pictures", folder / "bad.json")


def test_absent_file_and_folder(folder: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json does not exist"):
        CocoDataset.load(folder / "pictures", folder / "none.json")
    with pytest.raises(InputError, match=r"pictures is a folder"):
        CocoDataset.load(folder / "pictures", folder / "pictures")
    with pytest.raises(InputError, match=r"elsewhere does not exist"):
        CocoDataset.load(folder / "elsewhere", folder / "val.json")
    with pytest.raises(InputError, match=r"val\.json is a file"):
        CocoDataset.load(folder / "val.json", folder / "val.json")


@pytest.mark.parametrize(
    "names",
    [
        None,
        ("__background__", "disc", "square"),
        ("", "Disc", "SQUARE", "more"),
        ("__background__", "round thing", "four-cornered thing"),  # other words for the same
    ],
)
def test_labels_that_agree(dataset: CocoDataset, names: tuple[str, ...] | None) -> None:
    dataset.check_labels(names)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("__background__", "disc"), "category 2 .*labels are 1 to 1"),
        (("disc", "square"), "category 1 'disc', which is the model's label 0"),
        (("__background__", "square", "disc"), "category 1 'disc'.*label 2"),
    ],
)
def test_labels_that_disagree(dataset: CocoDataset, names: tuple[str, ...], why: str) -> None:
    with pytest.raises(InputError, match=why):
        dataset.check_labels(names)


def test_json_with_a_byte_order_mark_is_read(folder: Path) -> None:
    """As PowerShell and .NET's tools write it."""
    marked = folder / "marked.json"
    marked.write_bytes(b"\xef\xbb\xbf" + (folder / "val.json").read_bytes())
    assert len(CocoDataset.load(folder / "pictures", marked).images) == 4


def test_nested_too_deep(folder: Path) -> None:
    (folder / "deep.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(InputError, match=r"deep\.json .*nested too deeply"):
        CocoDataset.load(folder / "pictures", folder / "deep.json")


@pytest.mark.parametrize("content", ["[]", "3", '{"car": null}', '{"car": true}', '{"car": [1]}'])
def test_a_file_of_categories_that_says_nothing(folder: Path, content: str) -> None:
    (folder / "categories.json").write_text(content)
    with pytest.raises(InputError, match="does not say which label each category is"):
        CocoDataset.load(folder / "pictures", folder / "val.json", folder / "categories.json")


def test_a_file_of_categories(folder: Path) -> None:
    (folder / "categories.json").write_text('{"disc": "ball", "2": 7}')
    loaded = CocoDataset.load(folder / "pictures", folder / "val.json", folder / "categories.json")
    assert loaded.chosen == {"disc": "ball", "2": 7}
