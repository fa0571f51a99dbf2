"""PasteMasks' kernel, run on the host as a device would run it: the definition, to the bit."""

from typing import Any

import numpy as np
import pytest

from maskrt.core import UnsupportedTargetError
from maskrt.core.masks import MaskPaste
from maskrt.plugins import OPERATORS
from maskrt.plugins.launch import Tensor
from maskrt.runtime import paste_masks as runtime_paste

from .host import run_every_way, run_on_host, run_sanitized

torch = pytest.importorskip("torch")

from maskrt.plugins.paste_masks.reference import paste_masks  # noqa: E402

pytestmark = pytest.mark.torch

BASE: dict[str, Any] = {"height": 40, "width": 50, "threshold": 0.5, "packed": 1}
VARIANTS: list[tuple[int, str, dict[str, Any]]] = [
    (28, "float32", {"packed": 1}),
    (28, "float32", {"packed": 0}),
    (28, "float16", {"packed": 1}),
    (14, "float16", {"packed": 0, "threshold": 0.3}),
    (7, "float32", {"packed": 0, "threshold": 0.0}),
    (1, "float32", {"packed": 1}),
    (104, "float32", {"packed": 0}),
    (28, "float32", {"packed": 1, "paste": "detectron2"}),
    (14, "float16", {"packed": 0, "paste": "detectron2", "threshold": 0.0}),
    (1, "float32", {"packed": 1, "paste": "detectron2"}),
]
CASES = 200  # a variant; ten variants
NOWHERE = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 8e6, -8.5e6, 1e7, 0, -0.0], np.float32)


def _draw(
    generator: np.random.Generator, side: int, dtype: str, reach: int = 90
) -> tuple[list[np.ndarray], dict[str, int]]:
    """Masks and boxes of every kind, and a picture of any size."""
    batch, count = int(generator.integers(1, 3)), int(generator.integers(0, 4))
    height, width = (int(v) for v in generator.integers(1, reach, 2))
    if generator.integers(0, 8) == 0:
        width += 220  # more than one tile across
    masks = generator.uniform(0, 1, (batch, count, side, side))
    kind = generator.integers(0, 20, (batch, count))
    masks[kind == 0] = 0.5
    masks[kind == 1] = generator.choice([0, 1, np.nan, np.inf], (side, side))
    start = generator.uniform(-0.5, 1, (batch, count, 2)) * (width, height)
    sides = generator.uniform(-0.05, 1, start.shape) ** 3 * 1.5 * (width, height)
    boxes = np.concatenate([start, start + sides], -1).astype(np.float32)
    whole = generator.integers(0, 2, (batch, count)) == 0
    boxes[whole] = boxes[whole].round()
    boxes[kind == 2] = [-8e6, -7e6, 8e6, 7e6]
    boxes[kind == 3] += 1000
    boxes[kind == 4, 2:] = boxes[kind == 4, :2]
    for place in np.argwhere(kind == 5):
        boxes[(*place, generator.integers(0, 4))] = generator.choice(NOWHERE)
    return [masks.astype(dtype), boxes], {"height": height, "width": width}


def _expected(inputs: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    masks, boxes = (torch.from_numpy(value) for value in inputs)
    return paste_masks(masks, boxes, **attributes).numpy()


@pytest.mark.parametrize(("side", "dtype", "change"), VARIANTS, ids=str)
def test_drawn_cases_equal_the_definition(side: int, dtype: str, change: dict[str, Any]) -> None:
    generator = np.random.default_rng(side)
    some = 0
    for case in range(CASES):
        inputs, size = _draw(generator, side, dtype, 90 if side < 100 else 50)
        attributes = {**BASE, **change, **size}
        (found,) = run_on_host("PasteMasks", attributes, inputs)
        expected = _expected(inputs, attributes)
        np.testing.assert_array_equal(found, expected, err_msg=f"case {case}")
        some += expected.any()
    assert some > CASES / 6


@pytest.mark.parametrize("paste", MaskPaste, ids=str)
@pytest.mark.parametrize("packed", [0, 1])
def test_a_picture_of_many_tiles_equals_the_runtime(packed: int, paste: MaskPaste) -> None:
    generator = np.random.default_rng(5)
    masks = generator.uniform(0, 1, (1, 5, 28, 28)).astype(np.float32)
    boxes = np.array(
        [[[3.3, 4.4, 600.2, 300.9], [250, 30, 260, 40], [-100, -50, 900, 500], [0, 0, 5, 333],
          [500.5, 100.5, 700, 700]]], np.float32
    )  # fmt: skip
    attributes = {**BASE, "height": 333, "width": 611, "packed": packed, "paste": paste.value}
    (found,) = run_on_host("PasteMasks", attributes, [masks, boxes])
    if packed:
        bits = np.unpackbits(found.astype("<i4").view(np.uint8), axis=-1, bitorder="little")
        assert not bits[..., 611:].any()
        found = bits[..., :611]
    expected = runtime_paste(masks[0], boxes[0], (333, 611), paste=paste)
    assert 0.1 < expected.mean() < 0.9
    assert (found[0] != expected).mean() < 1e-5  # the runtime's products are BLAS's


def test_order_of_threads_and_blocks_is_irrelevant() -> None:
    generator = np.random.default_rng(2)
    for case in range(12):
        inputs, size = _draw(generator, 28, "float32")
        paste = ("torchvision", "detectron2")[case // 2 % 2]
        attributes = {**BASE, **size, "packed": case % 2, "paste": paste}
        (found,) = run_every_way("PasteMasks", attributes, inputs)
        np.testing.assert_array_equal(found, _expected(inputs, attributes))


@pytest.mark.slow
@pytest.mark.parametrize("paste", ["torchvision", "detectron2"])
@pytest.mark.parametrize(
    ("packed", "size"), [(0, (3, 37)), (0, (34, 259)), (1, (33, 65)), (1, (1, 290))], ids=str
)
def test_sanitizers_find_nothing(packed: int, size: tuple[int, int], paste: str) -> None:
    generator = np.random.default_rng(3)
    masks = generator.uniform(0, 1, (1, 4, 28, 28)).astype(np.float32)
    boxes = np.array(
        [[[-5, -5, 400, 60], [np.nan, 0, 9, 9], [8e6, 0, 8.1e6, 30], [250.5, 1, 262, 2]]],
        np.float32,
    )
    attributes = {
        **BASE, "height": size[0], "width": size[1], "packed": packed, "paste": paste,
    }  # fmt: skip
    (found,) = run_sanitized("PasteMasks", attributes, [masks, boxes])
    np.testing.assert_array_equal(found, _expected([masks, boxes], attributes))


def test_a_box_that_begins_inside_a_tile_begins_with_its_own_row() -> None:
    """The walk down keeps what it read of a row, so rows above the box must not stand for it."""
    masks = np.zeros((1, 1, 28, 28), np.float32)
    masks[0, 0, 0] = 1
    boxes = np.array([[[2, 60 / 28 + 3, 44, 63]]], np.float32)
    attributes = {**BASE, "height": 64, "width": 50, "packed": 0, "paste": "detectron2"}
    (found,) = run_on_host("PasteMasks", attributes, [masks, boxes])
    np.testing.assert_array_equal(found, _expected([masks, boxes], attributes))
    assert found[0, 0, 5:7, 4:42].all()


def test_masks_that_do_not_fit_into_shared_memory_are_refused() -> None:
    tensors = [Tensor((1, 5, 105, 105), "float32"), Tensor((1, 5, 4), "float32")]
    with pytest.raises(UnsupportedTargetError, match="104 pixels a side"):
        OPERATORS["PasteMasks"].launch(BASE, tensors)
