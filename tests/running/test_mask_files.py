"""What `maskrt run` writes for other tools is what was found, read by those tools' own readers."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskrt.core import Bundle, InputError, InputSpec, Instances, Manifest, UsageError
from maskrt.core.outline import one_ring
from maskrt.running import pictures as running
from maskrt.running.pictures import run
from maskrt.runtime import read_image
from maskrt.runtime.stream import Frame

NAMES = ("background", "ball", "box")
SIZE = (40, 60)
ALL = ["png", "coco", "yolo", "labelme", "labelme-mask", "csv"]


def _found(size: tuple[int, int] = SIZE) -> Instances:
    """A ball on a box whose mask has two parts, and an unsure ball."""
    masks = np.zeros((3, *size), bool)
    masks[0, 5:15, 5:20] = True
    masks[1, 10:30, 10:25] = masks[1, 20:36, 40:55] = True
    masks[2, 0:3, 50:60] = True
    boxes = np.array([[5, 5, 20, 15], [10, 10, 55, 36], [50, 0, 60, 3]], np.float32)
    scores = np.array([0.9, 0.75, 0.25], np.float32)
    return Instances(boxes, scores, np.array([1, 2, 1]), size, NAMES, masks)


class _Engine:
    class_names = NAMES

    def predict_stream(self, files: list[Path]) -> Iterator[Frame]:
        for index, file in enumerate(files):
            picture = read_image(file)
            yield Frame(index, file, picture, _found())

    def __enter__(self) -> "_Engine":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    path = tmp_path / "tiny.maskrt"
    manifest = Manifest("test", InputSpec(64, 64), {"boxes": (1, 1, 4)}, class_names=NAMES)
    with Bundle.create(path, manifest):
        pass
    monkeypatch.setattr(running, "open_session", lambda *_, **__: _Engine())
    return Bundle.open(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "pics").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", SIZE[::-1], (90, 90, 90)).save(tmp_path / "pics" / f"{name}.jpg")
    return tmp_path / "pics"


@pytest.fixture
def written(bundle: Bundle, pictures: Path, tmp_path: Path) -> Path:
    run(bundle, pictures, tmp_path / "out", masks=ALL, draw=False)
    return tmp_path / "out"


def test_nothing_is_drawn_and_all_is_written(written: Path) -> None:
    made = sorted(file.relative_to(written).as_posix() for file in written.rglob("*.*"))
    assert made == [
        "annotations.json", "data.yaml", "images.json", "instances.csv", "labelme-mask/a.json",
        "labelme-mask/b.json", "labelme/a.json", "labelme/b.json", "labels/a.txt", "labels/b.txt",
        "masks/a.png", "masks/b.png", "results.json",
    ]  # fmt: skip


def test_a_map_numbers_instances_the_best_on_top(written: Path) -> None:
    numbers = np.asarray(Image.open(written / "masks" / "a.png"))
    masks = _found().masks
    assert masks is not None
    expected = np.where(masks[0], 1, np.where(masks[1], 2, 0))
    np.testing.assert_array_equal(numbers, expected)
    assert Image.open(written / "masks" / "a.png").mode == "I;16"


def test_coco_reads_the_data_set(written: Path) -> None:
    coco = COCO(str(written / "annotations.json"))
    masks = _found().masks
    assert masks is not None
    of_b = coco.loadAnns(coco.getAnnIds(imgIds=[2]))
    assert len(of_b) == 2
    for entry, mask in zip(of_b, masks, strict=False):
        np.testing.assert_array_equal(coco.annToMask(entry).astype(bool), mask)
        assert entry["area"] == mask.sum() == coco_mask.area(entry["segmentation"])
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["ball", "box"]


def test_yolo_lines_enclose_the_masks(written: Path) -> None:
    lines = (written / "labels" / "a.txt").read_text().splitlines()
    masks = _found().masks
    assert masks is not None
    assert [line.split()[0] for line in lines] == ["0", "1"]
    names = yaml.safe_load((written / "data.yaml").read_text())["names"]
    assert names == {0: "ball", 1: "box"}
    for line, mask in zip(lines, masks, strict=False):
        corners = np.array(line.split()[1:], float).reshape(-1, 2) * SIZE[::-1] * 8
        drawn = np.zeros((SIZE[0] * 8, SIZE[1] * 8), np.uint8)
        cv2.fillPoly(drawn, [corners.round().astype(np.int32)], 1)
        centres = drawn[4::8, 4::8].astype(bool)
        assert (centres != mask).sum() <= 20  # the line that joins the parts


def test_one_ring_has_the_area_of_all() -> None:
    squares = [np.array([[x, 0], [x + 2, 0], [x + 2, 2], [x, 2]], float) for x in (0, 5, 9)]
    ring = one_ring(squares)
    after = np.roll(ring, -1, axis=0)
    assert (ring[:, 0] * after[:, 1] - after[:, 0] * ring[:, 1]).sum() / 2 == 12
    assert one_ring(squares[:1]) is squares[0]


def test_labelme_finds_the_picture(written: Path, pictures: Path) -> None:
    made = json.loads((written / "labelme" / "a.json").read_text())
    assert (written / "labelme" / made["imagePath"]).resolve() == (pictures / "a.jpg").resolve()
    assert [shape["label"] for shape in made["shapes"]] == ["ball", "box", "box"]


def test_a_table_has_a_line_an_instance(written: Path) -> None:
    with (written / "instances.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    masks = _found().masks
    assert masks is not None
    assert [(row["instance"], row["name"]) for row in rows] == [("1", "ball"), ("2", "box")] * 2
    assert [int(row["mask_pixels"]) for row in rows[:2]] == masks[:2].sum(axis=(1, 2)).tolist()
    assert float(rows[1]["x1"]) == 55


@pytest.mark.parametrize("given", [["BOX"], [2], ["2"]])
def test_classes_are_names_or_numbers(
    given: list[Any], bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    found = run(bundle, pictures, tmp_path / "out", classes=given)
    assert [entry["category_id"] for entry in found.annotations] == [2, 2]


def test_what_is_not_known_is_refused_before_anything_is_written(
    bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no class 'bal': did you mean ball"):
        run(bundle, pictures, tmp_path / "out", classes=["bal"])
    with pytest.raises(
        UsageError, match="png, coco, yolo, labelme, labelme-mask, csv, and not as 'voc'"
    ):
        run(bundle, pictures, tmp_path / "out", masks=["voc"])
    with pytest.raises(UsageError, match="a video, and annotations number pictures"):
        run(bundle, "clip.mp4", tmp_path / "out", annotations="a.json")
    assert not (tmp_path / "out").exists()


def _annotations(tmp_path: Path, images: list[tuple[int, str]]) -> Path:
    """The user's own file: ids far from 1, categories numbered otherwise, names in capitals."""
    found = _found().to_coco(0)[:2]
    other = {1: 30, 2: 7}
    entries = [
        {**entry, "id": 1 + n, "image_id": image, "category_id": other[entry["category_id"]],
         "iscrowd": 0, "area": float(coco_mask.area(entry["segmentation"]))}
        for n, (image, entry) in enumerate((image, e) for image, _ in images for e in found)
    ]  # fmt: skip
    listed = [
        {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
        for number, name in images
    ]
    categories = [{"id": 7, "name": "Box"}, {"id": 30, "name": "Ball"}]
    file = tmp_path / "val.json"
    file.write_text(
        json.dumps({"images": listed, "annotations": entries, "categories": categories})
    )
    return file


def test_results_are_scored_against_the_users_own_annotations(
    bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    file = _annotations(tmp_path, [(501, "pics/b.jpg"), (77, "a.jpg"), (4, "other/b.jpg")])
    run(bundle, [pictures / "a.jpg", pictures / "b.jpg"], tmp_path / "out", annotations=file)
    truth = COCO(str(file))
    score = COCOeval(truth, truth.loadRes(str(tmp_path / "out" / "results.json")), "segm")
    score.params.imgIds = [77, 501]
    score.evaluate()
    score.accumulate()
    score.summarize()
    assert score.stats[0] == pytest.approx(1.0)
    images = json.loads((tmp_path / "out" / "images.json").read_text())["images"]
    assert [(image["id"], image["file_name"]) for image in images] == [
        (77, "a.jpg"), (501, "pics/b.jpg")
    ]  # fmt: skip


def test_files_for_other_tools_go_by_their_own_numbers(
    bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    """COCO's go by the user's categories, YOLO's by the model's labels: each with its own names."""
    file = _annotations(tmp_path, [(77, "a.jpg")])
    out = tmp_path / "out"
    run(bundle, pictures / "a.jpg", out, annotations=file, masks=ALL)
    coco = COCO(str(out / "annotations.json"))
    named = {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())}
    assert [named[a["category_id"]] for a in coco.loadAnns(coco.getAnnIds([77]))] == ["Ball", "Box"]
    names = yaml.safe_load((out / "data.yaml").read_text())["names"]
    lines = (out / "labels" / "a.txt").read_text().splitlines()
    assert [names[int(line.split()[0])] for line in lines] == ["ball", "box"]


def test_an_instance_without_a_category_is_counted_and_left_out(
    bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    file = _annotations(tmp_path, [(77, "a.jpg")])
    known = json.loads(file.read_text())
    known["categories"] = [entry for entry in known["categories"] if entry["name"] == "Ball"]
    known["annotations"] = [a for a in known["annotations"] if a["category_id"] == 30]
    file.write_text(json.dumps(known))
    out = tmp_path / "out"
    found = run(bundle, pictures / "a.jpg", out, annotations=file, masks=["coco"])
    assert {entry["category_id"] for entry in found.annotations} == {30}
    assert [entry.split(" of ")[0] for entry in found.skipped] == ["1 instance"]
    assert len(COCO(str(out / "annotations.json")).anns) == 1


def test_a_picture_without_an_id_is_named_before_anything_is_written(
    bundle: Bundle, pictures: Path, tmp_path: Path
) -> None:
    file = _annotations(tmp_path, [(77, "a.jpg")])
    with pytest.raises(InputError, match=r"b\.jpg has no image_id"):
        run(bundle, pictures, tmp_path / "out", annotations=file)
    twice = _annotations(tmp_path, [(1, "x/a.jpg"), (2, "y/a.jpg")])
    with pytest.raises(InputError, match="several of that name"):
        run(bundle, pictures / "a.jpg", tmp_path / "out", annotations=twice)
    assert not (tmp_path / "out").exists()
