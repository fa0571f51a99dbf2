"""Pictures of any shape onto the canvas, and boxes back to the very pixels they came from."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrt.core import InputError, InputSpec
from maskrt.runtime import letterbox, letterbox_batches

SPEC = InputSpec(64, 96, batch=2, pad_value=(1, 2, 3))
NOISE = np.random.default_rng(0)


def noise(height: int, width: int) -> np.ndarray:
    return NOISE.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("h", "w"), [(64, 96), (64, 50), (20, 96)])
def test_a_picture_that_fits_is_copied_bit_by_bit(h: int, w: int) -> None:
    image = noise(h, w)
    canvas, place = letterbox(image, SPEC)
    np.testing.assert_array_equal(canvas[:h, :w], image)
    assert (canvas[h:] == SPEC.pad_value).all()
    assert (canvas[:, w:] == SPEC.pad_value).all()
    assert place.canvas_size == (h, w)


def test_resizing_is_pillows_antialiased_bilinear() -> None:
    image = noise(200, 150)
    canvas, place = letterbox(image, SPEC)
    assert place.canvas_size == (64, 48)
    expected = Image.fromarray(image).resize((48, 64), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(canvas[:, :48], np.asarray(expected))
    assert canvas[:, :48].std() < image.std() / 2  # noise is averaged, not sampled


def test_a_small_picture_is_enlarged() -> None:
    _, place = letterbox(noise(8, 8), SPEC)
    assert place.canvas_size == (64, 64)


@pytest.mark.parametrize(("h", "w"), [(1, 4000), (4000, 1), (1, 1), (3, 100_000)])
def test_extreme_shapes_keep_at_least_a_pixel(h: int, w: int) -> None:
    canvas, place = letterbox(noise(h, w), SPEC)
    assert canvas.shape == (64, 96, 3)
    assert min(place.canvas_size) >= 1
    whole = np.array([[0, 0, place.canvas_size[1], place.canvas_size[0]]], np.float32)
    np.testing.assert_allclose(place.to_picture(whole), [[0, 0, w, h]], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(h=st.integers(1, 900), w=st.integers(1, 900))
def test_the_covered_area_maps_to_the_whole_picture(h: int, w: int) -> None:
    canvas, place = letterbox(np.zeros((h, w, 3), np.uint8), SPEC)
    ch, cw = place.canvas_size
    assert ch == 64 or cw == 96  # one side is filled
    assert not canvas[:ch, :cw].any()
    assert (canvas[ch:] == SPEC.pad_value).all()
    whole = place.to_picture(np.array([[0, 0, cw, ch]], np.float32), clip=False)
    np.testing.assert_allclose(whole, [[0, 0, w, h]], rtol=1e-6)


def test_an_object_is_found_where_it_was() -> None:
    image = np.zeros((333, 517, 3), np.uint8)
    image[100:180, 300:420] = 255
    canvas, place = letterbox(image, InputSpec(320, 320))
    rows = np.flatnonzero(canvas[: place.canvas_size[0], :, 0].max(axis=1) > 127)
    columns = np.flatnonzero(canvas[: place.canvas_size[0], :, 0].max(axis=0) > 127)
    box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
    # half a canvas pixel at each edge, and a canvas pixel is 517/320 picture pixels
    assert np.abs(place.to_picture(box) - [[300, 100, 420, 180]]).max() <= 0.5 * 517 / 320 + 1e-3


def test_boxes_are_clipped_to_the_picture() -> None:
    _, place = letterbox(noise(64, 48), SPEC)
    boxes = np.array([[-5, -5, 90, 70], [60, 0, 90, 30]], np.float32)
    clipped = place.to_picture(boxes)
    assert clipped.dtype == np.float32
    np.testing.assert_array_equal(clipped, [[0, 0, 48, 64], [48, 0, 48, 30]])
    np.testing.assert_array_equal(place.to_picture(boxes, clip=False), boxes)
    assert place.to_picture(np.zeros((0, 4), np.float32)).shape == (0, 4)


def test_batches_mix_files_and_arrays_and_repeat_the_last(tmp_path: Path) -> None:
    images = [noise(64, 96) for _ in range(3)]
    file = tmp_path / "a.png"
    Image.fromarray(images[1]).save(file)
    batches = list(letterbox_batches([images[0], file, images[2]], SPEC))
    assert [count for _, count in batches] == [2, 1]
    assert all(b.shape == SPEC.shape and b.dtype == np.uint8 for b, _ in batches)
    np.testing.assert_array_equal(batches[0][0], np.stack(images[:2]))
    np.testing.assert_array_equal(batches[1][0], np.stack([images[2]] * 2))


def test_batches_are_made_one_at_a_time(tmp_path: Path) -> None:
    batches = letterbox_batches([noise(8, 8), noise(8, 8), tmp_path / "none.png"], SPEC)
    assert next(batches)[1] == 2
    with pytest.raises(InputError, match=r"none\.png"):
        next(batches)
    assert list(letterbox_batches([], SPEC)) == []
