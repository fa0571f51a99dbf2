"""The definitions agree with the runtime's own stages, and with what is worked out by hand."""

import numpy as np
import pytest

from maskrt.core import InputSpec
from maskrt.runtime import letterbox
from maskrt.runtime.check.definitions import defined_letterbox, defined_paste
from maskrt.runtime.paste import paste_masks


@pytest.mark.parametrize("size", [(200, 300), (480, 640), (33, 900), (64, 96), (5, 3)])
def test_letterboxes_are_equal_bit_by_bit(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    spec = InputSpec(64, 96)
    canvas, place = letterbox(image, spec)
    defined, where = defined_letterbox(image, spec)
    np.testing.assert_array_equal(canvas, defined)
    assert place == where


def test_pasted_masks_are_equal_but_for_ties() -> None:
    rng = np.random.default_rng(1)
    masks = rng.uniform(size=(30, 28, 28)).astype(np.float32)
    boxes = np.sort(rng.uniform(-30, 200, (30, 2, 2)), axis=1).reshape(30, 4).astype(np.float32)
    own, defined = (paste(masks, boxes, (150, 180)) for paste in (paste_masks, defined_paste))
    assert own.sum() > 10_000
    assert (own != defined).sum() <= 3


def test_a_full_mask_covers_its_box_and_the_last_pixel() -> None:
    """Box 5..33 becomes 4..34 with the ring, 31 pixels; one on each side is below 0.5."""
    pasted = defined_paste(np.ones((1, 28, 28), np.float32), np.float32([[5, 6, 33, 34]]), (50, 50))
    expected = np.zeros((50, 50), bool)
    expected[6:35, 5:34] = True
    np.testing.assert_array_equal(pasted[0], expected)


def test_nothing_to_paste() -> None:
    none = defined_paste(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32), (9, 9))
    assert none.shape == (0, 9, 9)
