"""Masks over the canvas: against PyTorch's own interpolation, and against their definition."""

import pickle

import numpy as np
import pytest

from maskrt.core import InputSpec
from maskrt.core.masks import MaskFrame, MaskPaste, MaskSource, crops_of
from maskrt.runtime.canvas_masks import CanvasMasks, crop_canvas_masks, paste_canvas_masks
from maskrt.runtime.check.definitions import definition_of
from maskrt.runtime.letterbox import Placement, placement
from maskrt.runtime.postprocess import instances_of

_NEAR = 1e-5  # probabilities nearer to the threshold than float32 rounding of a bilinear sum


def _blobs(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth probabilities with some above and some below a half, float32."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    masks = np.empty((count, height, width), np.float32)
    for mask in masks:
        cy, cx = generator.uniform(0, height), generator.uniform(0, width)
        radius = generator.uniform(1, max(height, width) / 2)
        mask[:] = 1 / (1 + np.exp((np.hypot(y - cy, x - cx) - radius) / 1.5))
    return masks + generator.uniform(0, 1e-3, masks.shape).astype(np.float32)


@pytest.mark.torch
@pytest.mark.parametrize(("height", "width"), [(64, 64), (62, 97), (33, 128)])
def test_on_the_canvas_itself_they_are_torchs_interpolation(height: int, width: int) -> None:
    torch = pytest.importorskip("torch")
    masks = _blobs(6, -(-height // 4), -(-width // 4))
    up = torch.nn.functional.interpolate(
        torch.from_numpy(masks)[None], scale_factor=4, mode="bilinear", align_corners=False
    )[0, :, :height, :width].numpy()
    found = paste_canvas_masks(masks, Placement((height, width), (height, width)))
    clear = np.abs(up - 0.5) > _NEAR
    assert found.any()
    assert not found.all()
    assert np.array_equal(found[clear], (up > 0.5)[clear])


@pytest.mark.torch
@pytest.mark.parametrize(("height", "width"), [(550, 550), (100, 170)])
def test_even_masks_are_torchs_interpolation_to_the_picture(height: int, width: int) -> None:
    """As YOLACT's prototypes, two for each place of a map of stride 8, are brought to a picture."""
    torch = pytest.importorskip("torch")
    masks = _blobs(6, 2 * -(-height // 8), 2 * -(-width // 8))
    up = torch.nn.functional.interpolate(
        torch.from_numpy(masks)[None], size=(height, width), mode="bilinear", align_corners=False
    )[0].numpy()
    place = placement(height, width, InputSpec(height, width))
    found = paste_canvas_masks(masks, place, frame=MaskFrame.CANVAS_EVEN)
    clear = np.abs(up - 0.5) > _NEAR
    assert np.array_equal(found[clear], (up > 0.5)[clear])
    quarter = paste_canvas_masks(masks, place)  # what another grid would have made of them
    assert not np.array_equal(found, quarter)


def test_late_masks_have_element_i_at_pixel_four_i_and_two() -> None:
    masks = _blobs(4, 16, 24)
    place = placement(64, 96, InputSpec(64, 96))
    found = paste_canvas_masks(masks, place, frame=MaskFrame.CANVAS_LATE)
    assert np.array_equal(found[:, 2::4, 2::4], masks > 0.5)
    # between two elements a pixel each quarter of the way, and before the first as the first
    row = masks[:, 5]
    between = row[:, :-1] * 0.75 + row[:, 1:] * 0.25
    clear = np.abs(between - 0.5) > _NEAR
    assert np.array_equal(found[:, 22, 3:-1:4][clear], (between > 0.5)[clear])
    assert np.array_equal(found[:, 22, 0], row[:, 0] > 0.5)


@pytest.mark.parametrize("frame", [frame for frame in MaskFrame if frame is not MaskFrame.BOX])
@pytest.mark.parametrize("size", [(480, 640), (37, 29), (1080, 1920), (64, 96), (5, 200)])
def test_any_picture_equals_the_definition(size: tuple[int, int], frame: MaskFrame) -> None:
    spec = InputSpec(60, 92)
    place = placement(*size, spec)
    masks = _blobs(5, 16, 24, seed=sum(size))
    h, w = size
    boxes = np.array([[w * 0.1, h * 0.2, w * 0.9, h * 0.85]] * 5, np.float32)
    given = (masks, place, boxes) if frame is MaskFrame.CANVAS_BOXED else (masks, place)
    found = paste_canvas_masks(masks, place, frame=frame, boxes=boxes)
    defined = definition_of(frame, MaskPaste.TORCHVISION)(*given)
    assert found.shape == (5, *size)
    assert found.any()
    assert (found != defined).mean() < 1e-5  # float32 against float64, at the threshold alone


def test_a_constant_gradient_crosses_the_threshold_where_it_should() -> None:
    """A ramp over the canvas is the ramp over the picture, wherever the letterbox put it."""
    ramp = np.tile((np.arange(25, dtype=np.float32) * 4 + 2) / 100, (1, 25, 1))
    found = paste_canvas_masks(ramp, Placement((50, 200), (25, 100)))
    columns = np.flatnonzero(found[0, 10])
    assert columns[0] == 100  # the first pixel whose centre lies beyond half of the canvas's 100
    assert columns[-1] == 199


@pytest.mark.parametrize("frame", [MaskFrame.CANVAS, MaskFrame.CANVAS_EVEN])
def test_crops_selection_and_pickles_are_the_pasted_masks(frame: MaskFrame) -> None:
    place = placement(333, 500, InputSpec(128, 160))
    masks = _blobs(4, 32, 40)
    masks[2] = 0.1  # an empty one
    source = CanvasMasks(masks, place, frame)
    assert isinstance(source, MaskSource)
    pasted = source()
    for one, mask in zip(source.crops(), pasted, strict=True):
        rebuilt = np.zeros_like(mask)
        height, width = one.inside.shape
        rebuilt[one.top : one.top + height, one.left : one.left + width] = one.inside
        assert np.array_equal(rebuilt, mask)
    tight = crops_of(pasted)
    for loose, least in zip(crop_canvas_masks(masks, place, frame=frame), tight, strict=True):
        assert loose.inside.size <= least.inside.size + 40 * sum(least.inside.shape) + 1600
    keep = np.array([False, True, True, False])
    assert np.array_equal(source.select(keep)(), pasted[keep])
    assert np.array_equal(pickle.loads(pickle.dumps(source))(), pasted)


def test_instances_take_their_masks_from_the_canvas() -> None:
    place = placement(128, 128, InputSpec(64, 64))
    masks = np.zeros((1, 3, 16, 16), np.float32)
    masks[0, 0, 4:8, 4:12] = 1
    outputs = {
        "boxes": np.array([[[16, 16, 48, 32], [0, 0, 0, 0], [0, 0, 0, 0]]], np.float32),
        "scores": np.array([[0.9, 0, 0]], np.float32),
        "labels": np.array([[1, 0, 0]], np.int32),
        "masks": masks,
        "count": np.array([1], np.int32),
    }
    found = instances_of(outputs, 0, place, mask_frame=MaskFrame.CANVAS)
    assert found.masks is not None
    rows, columns = np.nonzero(found.masks[0])
    assert (rows.min(), rows.max() + 1) == (32, 64)  # twice the canvas's pixels
    assert (columns.min(), columns.max() + 1) == (32, 96)
    assert np.array_equal(found.boxes, [[32, 32, 96, 64]])
