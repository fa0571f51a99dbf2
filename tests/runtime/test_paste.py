"""Pasted masks equal torchvision's, and a slow definition pixel by pixel."""

import math

import numpy as np
import pytest

from maskrt.runtime import paste_masks

RNG = np.random.default_rng(0)


def blobs(count: int, side: int = 28) -> np.ndarray:
    """Return smooth probabilities that cross 0.5 along a closed curve, and some noise."""
    y, x = np.mgrid[:side, :side]
    cy, cx = RNG.uniform(0.3 * side, 0.7 * side, (2, count, 1, 1))
    radius = RNG.uniform(0.1 * side, 0.7 * side, (count, 1, 1))
    distance = np.hypot(y - cy, x - cx) + RNG.normal(0, 0.7, (count, side, side))
    return (1 / (1 + np.exp(distance - radius))).astype(np.float32)


def boxes_in(count: int, height: int, width: int) -> np.ndarray:
    size = RNG.uniform(0.5, 0.8 * max(height, width), (count, 2))
    centre = RNG.uniform(0, 1, (count, 2)) * [width, height]
    raw = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    return np.clip(raw, 0, [width, height, width, height]).astype(np.float32)


def paste_pixel_by_pixel(mask: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the interpolated mask, float [h, w]: the definition, in double precision."""
    side = len(mask) + 2
    padded = np.zeros((side, side))
    padded[1:-1, 1:-1] = mask
    x0, y0, x1, y1 = box.astype(np.float64)
    half_w, half_h = (x1 - x0) / 2 * side / len(mask), (y1 - y0) / 2 * side / len(mask)
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = math.trunc(cx - half_w), math.trunc(cy - half_h)
    right, bottom = math.trunc(cx + half_w), math.trunc(cy + half_h)
    image = np.zeros(size)
    for y in range(max(top, 0), min(bottom + 1, size[0])):
        for x in range(max(left, 0), min(right + 1, size[1])):
            v = max((y - top + 0.5) * side / max(bottom - top + 1, 1) - 0.5, 0.0)
            u = max((x - left + 0.5) * side / max(right - left + 1, 1) - 0.5, 0.0)
            r, c = min(int(v), side - 1), min(int(u), side - 1)
            r2, c2 = min(r + 1, side - 1), min(c + 1, side - 1)
            upper = padded[r, c] * (1 - u + c) + padded[r, c2] * (u - c)
            lower = padded[r2, c] * (1 - u + c) + padded[r2, c2] * (u - c)
            image[y, x] = upper * (1 - v + r) + lower * (v - r)
    return image


@pytest.mark.parametrize(
    "box",
    [
        (3.2, 4.7, 40.1, 33.9),
        (10, 10, 10, 10),  # empty
        (10.4, 12.1, 10.9, 12.2),  # less than a pixel
        (-30, -20, 25, 22),  # reaches outside at the top left
        (20, 15, 90, 80),  # and at the bottom right
        (-50, -50, 120, 120),  # larger than the picture
        (0, 0, 48, 40),
        (5, 7, 46, 8),
    ],
)
def test_equals_the_definition(box: tuple[float, ...]) -> None:
    mask, corners = blobs(1), np.array([box], np.float32)
    expected = paste_pixel_by_pixel(mask[0], corners[0], (40, 48))
    got = paste_masks(mask, corners, (40, 48))
    clear = np.abs(expected - 0.5) > 1e-4  # float32 against float64 may part at the threshold
    np.testing.assert_array_equal(got[0][clear], (expected > 0.5)[clear])
    assert clear.mean() > 0.99


@pytest.mark.parametrize("box", [(-30, 5, -10, 20), (60, 5, 90, 20), (5, 50, 20, 90), (9, 9, 4, 4)])
def test_boxes_outside_and_inside_out_paste_nothing(box: tuple[float, ...]) -> None:
    got = paste_masks(np.ones((1, 28, 28), np.float32), np.array([box], np.float32), (40, 48))
    assert not got.any()


def test_no_masks() -> None:
    got = paste_masks(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32), (40, 48))
    assert got.shape == (0, 40, 48)
    assert got.dtype == bool


def test_a_huge_box_costs_only_its_crop() -> None:
    box = np.array([[-1e6, -1e6, 1e6, 1e6]], np.float32)
    assert paste_masks(np.ones((1, 28, 28), np.float32), box, (40, 48)).all()


def test_threshold_is_exclusive_and_adjustable() -> None:
    mask, box = np.full((1, 28, 28), 0.25, np.float32), np.array([[8, 8, 36, 36]], np.float32)
    assert not paste_masks(mask, box, (40, 48)).any()
    assert not paste_masks(mask, box, (40, 48), threshold=0.25).any()
    assert paste_masks(mask, box, (40, 48), threshold=0.2)[0, 10:34, 10:34].all()


def test_tiles_join_without_a_seam() -> None:
    """A picture so wide that a tile is a single row, and a box of many tiles."""
    mask, box = blobs(1), np.array([[100.5, 2.25, 8900.5, 10.75]], np.float32)
    got = paste_masks(mask, box, (12, 9000))
    expected = paste_pixel_by_pixel(mask[0], box[0], (12, 9000))
    clear = np.abs(expected - 0.5) > 1e-4
    np.testing.assert_array_equal(got[0][clear], (expected > 0.5)[clear])


@pytest.mark.torch
@pytest.mark.parametrize(
    ("height", "width", "side"), [(512, 512, 28), (270, 480, 28), (97, 33, 28), (200, 200, 14)]
)
def test_equals_torchvision(height: int, width: int, side: int) -> None:
    torch = pytest.importorskip("torch")
    roi_heads = pytest.importorskip("torchvision.models.detection.roi_heads")
    masks, boxes = blobs(60, side), boxes_in(60, height, width)
    boxes[:4] = [[0, 0, width, height], [5, 5, 5, 5], [-9, -9, 20, 20], [3, 3, 3.5, 30]]
    pasted = roi_heads.paste_masks_in_image(
        torch.from_numpy(masks)[:, None], torch.from_numpy(boxes), (height, width)
    )
    expected = (pasted[:, 0] > 0.5).numpy()
    assert expected.any()
    got = paste_masks(masks, boxes, (height, width))
    # Products and sums are rounded as the CPU's instructions do: a pixel within an ulp of 0.5 may
    # part. None did here.
    assert (got != expected).mean() < 1e-5
