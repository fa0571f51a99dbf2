"""Masks pasted by detectron2's rule equal PyTorch's grid_sample of its formula, box by box."""

import math
import pickle
from typing import Any

import numpy as np
import pytest

from maskrt.core import Instances, UsageError
from maskrt.core.masks import MaskPaste
from maskrt.runtime import paste_masks
from maskrt.runtime.check.definitions import defined_sampled_paste
from maskrt.runtime.paste import LazyMasks, crop_masks

SIZE = (240, 320)
SIDES = {"below 16": (1, 16), "16 to 32": (16, 32), "32 to 96": (32, 96), "above 96": (96, 300)}
# A source coordinate is known to a few ulp of 28, and moves a value by as much as cells differ.
ROUNDING = 2e-5


def blobs(count: int, side: int = 28, seed: int = 0) -> np.ndarray:
    """Return smooth probabilities that cross 0.5 along a closed curve, and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    cy, cx = rng.uniform(0.3 * side, 0.7 * side, (2, count, 1, 1))
    radius = rng.uniform(0.1 * side, 0.7 * side, (count, 1, 1))
    distance = np.hypot(y - cy, x - cx) + rng.normal(0, 0.7, (count, side, side))
    return (1 / (1 + np.exp(distance - radius))).astype(np.float32)


def boxes_of(least: float, most: float, count: int = 60, seed: int = 1) -> np.ndarray:
    """Return boxes with such sides, a third of them across the picture's edge."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(least, most, (count, 2))
    start = rng.uniform(0, 1, (count, 2)) * (np.array(SIZE[::-1]) - sides)
    start[::3] -= rng.uniform(-0.5, 0.5, (len(start[::3]), 2)) * SIZE[::-1]
    return np.concatenate([start, start + sides], 1).astype(np.float32)


def sampled(masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return detectron2's masks before the threshold, float `[N, h, w]`: its formula in PyTorch."""
    torch = pytest.importorskip("torch")
    x0, y0, x1, y1 = (torch.from_numpy(boxes)[:, i, None] for i in range(4))
    y = (torch.arange(size[0]).float() + 0.5 - y0) / (y1 - y0) * 2 - 1
    x = (torch.arange(size[1]).float() + 0.5 - x0) / (x1 - x0) * 2 - 1
    shape = (len(masks), *size)
    grid = torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], 3)
    values = torch.nn.functional.grid_sample(
        torch.from_numpy(masks)[:, None], grid, mode="bilinear", padding_mode="zeros",
        align_corners=False,
    )  # fmt: skip
    pasted: np.ndarray = values[:, 0].numpy()
    return pasted


def agree(got: np.ndarray, values: np.ndarray) -> None:
    """Masks are `values >= 0.5`, but for pixels that rounding decides."""
    clear = np.abs(values - 0.5) > ROUNDING
    np.testing.assert_array_equal(got[clear], (values >= 0.5)[clear])
    assert clear.mean() > 0.999


@pytest.mark.torch
@pytest.mark.parametrize("name", SIDES)
def test_equals_grid_sample(name: str) -> None:
    masks, boxes = blobs(60), boxes_of(*SIDES[name])
    got, values = paste_masks(masks, boxes, SIZE, paste="detectron2"), sampled(masks, boxes, SIZE)
    assert got.any(axis=(1, 2)).sum() > 30
    agree(got, values)
    # Exactly the same here, by whatever instructions; a pixel within an ulp of 0.5 may part.
    assert (got != (values >= 0.5)).sum() <= 1


@pytest.mark.torch
@pytest.mark.parametrize("name", SIDES)
def test_torchvisions_rule_is_another(name: str) -> None:
    """Else nothing here could tell them apart; the smaller the box, the more they do."""
    masks, boxes = blobs(60), boxes_of(*SIDES[name])
    expected = sampled(masks, boxes, SIZE) >= 0.5
    other = paste_masks(masks, boxes, SIZE, paste=MaskPaste.TORCHVISION)
    union = (expected | other).sum(axis=(1, 2))
    ious = (expected & other).sum(axis=(1, 2))[union > 0] / union[union > 0]
    assert ious.mean() < {"below 16": 0.8, "16 to 32": 0.93, "32 to 96": 0.97}.get(name, 0.995)


@pytest.mark.torch
@pytest.mark.parametrize("side", [1, 7, 14, 28, 112])
def test_masks_of_any_side(side: int) -> None:
    masks, boxes = blobs(20, side), boxes_of(5, 150, 20)
    agree(paste_masks(masks, boxes, SIZE, paste="detectron2"), sampled(masks, boxes, SIZE))


@pytest.mark.torch
@pytest.mark.parametrize(
    "box",
    [
        (3.2, 4.7, 40.1, 33.9),
        (10.4, 12.1, 10.9, 12.9),  # around one pixel's centre
        (10.6, 12.1, 11.4, 12.4),  # around none
        (-30, -20, 25, 22),  # reaches outside at the top left
        (20, 15, 90, 80),  # and at the bottom right
        (-500, -400, 1200, 900),  # larger than the picture
        (0, 0, 48, 40),
        (0.5, 0.5, 47.5, 39.5),
        (5, 7, 46, 8),
        (-2e6, -2e6, 2e6, 2e6),
        (-3e5, 10, 2e5, 30),
        (0, 0, 1e6, 1e6),
        (47.9, 39.9, 48.2, 40.3),
        (60, 5, 90, 20),
        (5, -50, 20, -3),
    ],
)  # fmt: skip
def test_one_box(box: tuple[float, ...]) -> None:
    masks, corners = blobs(3), np.array([box] * 3, np.float32)
    agree(paste_masks(masks, corners, (40, 48), paste="detectron2"),
          sampled(masks, corners, (40, 48)))  # fmt: skip


@pytest.mark.parametrize(
    "box",
    [
        (9, 9, 4, 4), (10, 10, 10, 10), (10.5, 3, 10.5, 30), (3, 10.5, 30, 10.5), (0, 0, 1e-9, 30),
        (60, 5, 90, 20), (5, 50, 20, 90), (1e9, 0, 2e9, 30), (3e38, 3e38, 3.2e38, 3.3e38),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_boxes_without_an_extent_and_outside_paste_nothing(box: tuple[float, ...]) -> None:
    ones, corners = np.ones((1, 28, 28), np.float32), np.array([box], np.float32)
    assert not paste_masks(ones, corners, (40, 48), paste="detectron2").any()
    (crop,) = crop_masks(ones, corners, (40, 48), paste="detectron2")
    assert crop.inside.size == 0


@pytest.mark.filterwarnings("error")
def test_the_farthest_boxes_cost_only_their_crop() -> None:
    """Every pixel sees the middle of the mask, wherever the corners are."""
    ones = np.ones((1, 28, 28), np.float32)
    for far in (1e6, 1e12, 3.4e38):
        box = np.array([[-far, -far, far, far]], np.float32)
        assert paste_masks(ones, box, (40, 48), paste="detectron2").all()


def test_a_mask_covers_the_pixels_whose_centres_are_in_its_box() -> None:
    """All but the corners, where two falling edges are multiplied."""
    ones = np.ones((1, 28, 28), np.float32)
    for box in ((5, 6, 33, 34), (5.4, 6.4, 33.4, 34.4), (4.6, 5.6, 32.6, 33.6), (0, 0, 50, 40)):
        left, top, right, bottom = (math.floor(v + 0.5) for v in box)
        expected = np.zeros((40, 50), bool)
        expected[top:bottom, left:right] = True
        got = paste_masks(ones, np.array([box], np.float32), (40, 50), paste="detectron2")[0]
        corners = np.ix_([top, bottom - 1], [left, right - 1])
        got[corners] = expected[corners]
        np.testing.assert_array_equal(got, expected)


def test_the_threshold_is_inclusive() -> None:
    """0.5 is inside, and torchvision's rule leaves it out."""
    mask, box = np.full((1, 28, 28), 0.5, np.float32), np.array([[8, 8, 36, 36]], np.float32)
    assert paste_masks(mask, box, (40, 48), paste="detectron2")[0, 9:35, 9:35].all()
    assert not paste_masks(mask, box, (40, 48)).any()
    below = np.nextafter(mask, np.float32(0))
    assert not paste_masks(below, box, (40, 48), paste="detectron2").any()
    assert paste_masks(mask, box, (40, 48), 0.25, "detectron2")[0, 9:35, 9:35].all()
    nothing = paste_masks(np.zeros_like(mask), box, (40, 48), 0.0, "detectron2")
    assert not nothing.any()


@pytest.mark.torch
def test_tiles_join_without_a_seam() -> None:
    mask, box = blobs(1), np.array([[100.5, 2.25, 8900.5, 10.75]], np.float32)
    got = paste_masks(mask, box, (12, 9000), paste="detectron2")
    agree(got, sampled(mask, box, (12, 9000)))


def _instances(rule: MaskPaste, count: int = 12) -> tuple[Instances, np.ndarray, np.ndarray]:
    masks, boxes = blobs(count, seed=3), boxes_of(4, 120, count, seed=4)
    found = Instances(
        boxes, np.linspace(1, 0.5, count, dtype=np.float32), np.ones(count, np.int64), SIZE,
        masks_source=LazyMasks(masks, boxes, SIZE, rule),
    )  # fmt: skip
    return found, masks, boxes


@pytest.mark.torch
def test_instances_have_the_same_masks_in_every_form() -> None:
    """Masks, crops, RLE, polygons, drawings, selections, pickles: all of one rule."""
    pycocotools = pytest.importorskip("pycocotools.mask")
    found, masks, boxes = _instances(MaskPaste.DETECTRON2)
    expected = sampled(masks, boxes, SIZE) >= 0.5
    np.testing.assert_array_equal(found.masks, expected)
    entries: list[Any] = found.to_coco(1)
    for entry, mask in zip(entries, expected, strict=True):
        np.testing.assert_array_equal(pycocotools.decode(entry["segmentation"]), mask)
    for rings, mask in zip(found.polygons(), expected, strict=True):
        assert bool(rings) == mask.any()
        if rings:
            corners = np.concatenate(rings)
            rows, columns = np.nonzero(mask)
            edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert (*corners.min(0), *corners.max(0)) == edges
    keep = np.array([5, 1])
    np.testing.assert_array_equal(found.select(keep).masks, expected[keep])
    twin: Instances = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(twin.masks, expected)
    drawn = found.draw(np.full((*SIZE, 3), 100, np.uint8), min_score=0.0)
    inside = (drawn != 100).any(axis=2)
    assert inside[expected.any(axis=0)].all()
    assert not np.array_equal(_instances(MaskPaste.TORCHVISION)[0].masks, expected)


def test_the_definition_agrees_but_for_ties() -> None:
    masks = np.random.default_rng(1).uniform(size=(30, 28, 28)).astype(np.float32)
    boxes = boxes_of(2, 200, 30)
    boxes[3, 2:] = boxes[3, :2]
    own = paste_masks(masks, boxes, SIZE, paste="detectron2")
    assert own.sum() > 10_000
    assert (own != defined_sampled_paste(masks, boxes, SIZE)).sum() <= 3


def test_unknown_pastes_are_refused() -> None:
    none = np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32)
    with pytest.raises(UsageError, match="paste is 'mmdet', and must be torchvision or detectron2"):
        paste_masks(*none, (9, 9), paste="mmdet")
    assert paste_masks(*none, (9, 9), paste="detectron2").shape == (0, 9, 9)
