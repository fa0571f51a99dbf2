"""Crops, RLE, outlines and other tools' formats, against pycocotools, OpenCV and themselves."""

import base64
import io
import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from maskrt.core import InputError, Instances, MissingDependencyError
from maskrt.core.masks import Crop, crops_of
from maskrt.core.outline import polygons
from maskrt.core.rle import encode, run_lengths

MASKS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda s: arrays(bool, s))


def blob(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth shape with islands and holes."""
    cv2 = pytest.importorskip("cv2")
    noise = np.random.default_rng(seed).normal(size=(height, width))
    return cv2.GaussianBlur(noise, (0, 0), 4) > 0.02


def area_of(ring: np.ndarray) -> float:
    x, y = ring.astype(np.float64).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


@given(MASKS)
@settings(deadline=None, max_examples=300)
def test_rle_is_pycocotools(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    (crop,) = crops_of([mask])
    got = encode(crop, mask.shape)
    assert got["counts"] == expected["counts"].decode()
    assert got["size"] == list(expected["size"])


@pytest.mark.parametrize("seed", range(3))
def test_rle_of_a_large_mask_and_a_loose_crop(seed: int) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((1080, 1920), bool)
    mask[100:700, 300:1500] = blob(600, 1200, seed)
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert encode(Crop(90, 280, mask[90:720, 280:1510]), mask.shape)["counts"] == expected
    assert encode(Crop(0, 0, mask), mask.shape)["counts"] == expected


def test_run_lengths_of_empty_and_full_masks() -> None:
    assert run_lengths(Crop(5, 900, np.zeros((0, 3), bool)), (6, 7)).tolist() == [42]
    assert run_lengths(Crop(0, 0, np.ones((6, 7), bool)), (6, 7)).tolist() == [0, 42]
    assert run_lengths(Crop(0, 2, np.ones((6, 2), bool)), (6, 7)).tolist() == [12, 12, 18]


@given(MASKS)
@settings(deadline=None, max_examples=300)
def test_outlines_enclose_exactly_the_mask(mask: np.ndarray) -> None:
    """Every pixel's centre by the even-odd rule against the outer rings, holes filled by OpenCV."""
    cv2 = pytest.importorskip("cv2")
    rings = polygons(Crop(0, 0, mask))
    inside = np.zeros(mask.shape, bool)
    for y, x in np.ndindex(mask.shape):
        point = (x + 0.5, y + 0.5)
        inside[y, x] = any(cv2.pointPolygonTest(ring[:, None], point, False) > 0 for ring in rings)
    count, labels = cv2.connectedComponents((~np.pad(mask, 1)).astype(np.uint8), connectivity=8)
    assert count >= 1
    outside = (labels == labels[0, 0])[1:-1, 1:-1]
    np.testing.assert_array_equal(inside, ~outside)
    parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
    assert len(rings) <= parts  # a part inside another's hole has a ring of its own, too
    assert [area_of(r) for r in rings] == sorted((area_of(r) for r in rings), reverse=True)


def test_outlines_of_simple_shapes() -> None:
    mask = np.zeros((5, 6), bool)
    mask[1:3, 1:4] = True
    (ring,) = polygons(Crop(10, 20, mask))
    assert {tuple(p) for p in ring.tolist()} == {(21, 11), (24, 11), (24, 13), (21, 13)}
    assert polygons(Crop(0, 0, np.zeros((3, 3), bool))) == []
    corner = np.array([[1, 0], [0, 1]], bool)
    assert [area_of(r) for r in polygons(Crop(0, 0, corner))] == [1, 1]
    hole = np.ones((3, 3), bool)
    hole[1, 1] = False
    assert [area_of(r) for r in polygons(Crop(0, 0, hole))] == [9]


@pytest.mark.parametrize(("tolerance", "share"), [(0.5, 0.9), (1.0, 0.3), (3.0, 0.1)])
def test_tolerance_saves_corners_and_keeps_its_word(tolerance: float, share: float) -> None:
    cv2 = pytest.importorskip("cv2")
    y, x = np.mgrid[:200, :300]
    mask = np.hypot((y - 90) / 0.6, x - 150) < 100
    crop = crops_of([mask])[0]
    (exact,), (rough,) = polygons(crop), polygons(crop, tolerance)
    assert len(rough) < len(exact) * share
    assert {tuple(p) for p in rough.tolist()} <= {tuple(p) for p in exact.tolist()}
    gaps = [abs(cv2.pointPolygonTest(rough[:, None], tuple(map(float, p)), True)) for p in exact]
    assert max(gaps) <= tolerance + 1e-4


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1), (2, 9)])
@pytest.mark.parametrize("tolerance", [1.0, 3.0])
def test_no_part_is_too_thin_for_an_outline(shape: tuple[int, int], tolerance: float) -> None:
    (ring,) = polygons(Crop(5, 7, np.ones(shape, bool)), tolerance)
    assert ring.min(axis=0).tolist() == [7, 5]
    assert ring.max(axis=0).tolist() == [7 + shape[1], 5 + shape[0]]
    assert area_of(ring) > 0


@pytest.fixture
def found() -> Instances:
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 2:9, 3:8] = masks[0, 12:15, 20:22] = masks[1, 0:20, 25:30] = True
    return Instances(
        boxes=np.array([[3, 2, 22, 15], [25, 0, 30, 20]], np.float32),
        scores=np.array([0.9, 0.4], np.float32),
        labels=np.array([1, 7]),
        image_size=(20, 30),
        class_names=("background", "disc"),
        masks_source=masks,
    )


def test_coco_needs_no_pycocotools(found: Instances, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    entries = found.to_coco(3)
    assert [entry["segmentation"]["size"] for entry in entries] == [[20, 30]] * 2
    json.dumps(entries)


def test_labelme(found: Instances) -> None:
    made = found.to_labelme("a.jpg")
    json.dumps(made)
    assert [s["label"] for s in made["shapes"]] == ["disc", "disc", "7"]
    assert [s["group_id"] for s in made["shapes"]] == [0, 0, None]
    assert (made["imageHeight"], made["imageWidth"], made["imagePath"]) == (20, 30, "a.jpg")
    # labelme.LabelFile.load asks for these of a file, and of a shape
    assert {"version", "imageData", "imagePath", "shapes", "flags"} <= made.keys()
    assert all({"label", "points", "shape_type", "flags", "group_id"} <= s.keys()
               for s in made["shapes"])  # fmt: skip
    found.masks_source = found._pasted = None
    assert [s["shape_type"] for s in found.to_labelme()["shapes"]] == ["rectangle"] * 2


def test_labelme_s_masks_are_exact(found: Instances) -> None:
    """Read as LabelMe reads them: box corners are both inside, pixels are true where not zero."""
    assert found.masks is not None
    found.masks[0, 4:6, 4:6] = False  # a hole, which no polygon has
    made = json.loads(json.dumps(found.to_labelme("a.jpg", exact=True)))
    assert [(s["label"], s["shape_type"]) for s in made["shapes"]] == [
        ("disc", "mask"), ("7", "mask")
    ]  # fmt: skip
    for shape, mask in zip(made["shapes"], found.masks, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))).astype(bool)
        (left, top), (right, bottom) = np.rint(shape["points"]).astype(int).tolist()
        assert pixels.shape == (bottom - top + 1, right - left + 1)
        read = np.zeros_like(mask)
        read[top : bottom + 1, left : right + 1] = pixels
        np.testing.assert_array_equal(read, mask)
    found.masks[0] = False
    assert [s["label"] for s in found.to_labelme(exact=True)["shapes"]] == ["7"]
    found.masks_source = found._pasted = None
    assert [s["shape_type"] for s in found.to_labelme(exact=True)["shapes"]] == ["rectangle"] * 2


def test_supervision(found: Instances, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'maskrt\[track\]'"):
        found.to_supervision()
    taken: dict[str, Any] = {}
    module = SimpleNamespace(Detections=lambda **fields: taken.update(fields))
    monkeypatch.setitem(sys.modules, "supervision", module)
    found.to_supervision()
    assert taken["data"]["class_name"].tolist() == ["disc", "7"]
    assert taken["mask"] is found.masks
    assert taken["class_id"].dtype == int


def test_selected_instances_keep_their_masks(found: Instances) -> None:
    kept = found.select(np.array([1]))
    assert kept.masks is not None
    assert found.masks is not None
    np.testing.assert_array_equal(kept.masks, found.masks[1:])


def test_drawing_shows_what_is_sure_enough(found: Instances) -> None:
    blank = np.zeros((20, 30, 3), np.uint8)
    sure, all_of_them = found.draw(blank, min_score=0.5), found.draw(blank, min_score=0.1)
    assert sure[5, 5].any()
    assert not sure[18, 28].any()
    assert all_of_them[18, 28].any()
    all_of_them[:] = 0  # the caller's own


@pytest.mark.parametrize(
    "picture",
    [np.zeros((20, 31, 3), np.uint8), np.zeros((20, 30), np.uint8), np.zeros((20, 30, 4), np.uint8),
     np.full((20, 30, 3), 0.5, np.float32), "street.jpg"],
    ids=["another", "grey", "alpha", "floats", "a path"],
)  # fmt: skip
def test_drawing_on_what_is_not_the_picture_is_refused(found: Instances, picture: Any) -> None:
    with pytest.raises(InputError, match=r"drawn on its pixels, uint8 \[20, 30, 3\]"):
        found.draw(picture)
