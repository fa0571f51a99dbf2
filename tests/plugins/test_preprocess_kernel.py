"""Preprocess' kernels, run on the host as a device would run them: Pillow, to the bit."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from .host import run_every_way, run_on_host, run_sanitized
from .test_preprocess import ATTRIBUTES, by_pillow, noise

pytestmark = pytest.mark.torch

VARIANTS: list[dict[str, Any]] = [
    {},
    {"half": 1},
    {"mean": [0.0] * 3, "std": [255.0] * 3, "pad_value": [114.0] * 3},
    {"mean": [127.5, 0.0, 255.0], "std": [1.0, 1e-3, 1e3], "pad_value": [0.0, 0.5, 255.0]},
]
CASES = 550  # a variant; four variants


def _draw(generator: np.random.Generator) -> tuple[np.ndarray, dict[str, int]]:
    """Pictures and canvases of every proportion; about one in ten is not resized."""
    kind = generator.integers(0, 10)
    largest = generator.choice([2, 9, 40, 90])
    canvas_height, canvas_width = (int(v) for v in generator.integers(1, largest, 2))
    if kind < 4:
        height, width = generator.integers(1, 80, 2)
    elif kind < 6:
        height, width = generator.integers(1, 6), generator.integers(1, 900)
    elif kind < 8:
        height, width = generator.integers(1, 900), generator.integers(1, 6)
    elif kind < 9:
        height, width = generator.integers(80, 240, 2)
    else:
        height, width = canvas_height, generator.integers(1, canvas_width + 1)
    image = noise(int(height), int(width), int(generator.integers(0, 1000)))
    return image, {"height": canvas_height, "width": canvas_width}


def _run(image: np.ndarray, attributes: dict[str, Any]) -> None:
    (found,) = run_on_host("Preprocess", attributes, [image])
    np.testing.assert_array_equal(found, by_pillow(image, attributes), err_msg=str(image.shape))


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_drawn_cases_equal_pillow(change: dict[str, Any]) -> None:
    generator = np.random.default_rng(11)
    for _ in range(CASES):
        image, canvas = _draw(generator)
        _run(image, {**ATTRIBUTES, **change, **canvas})


@pytest.mark.parametrize(
    ("size", "canvas"),
    [
        ((3, 50_000), (8, 100)),  # a row under a tile does not fit into shared memory
        ((40, 5000), (64, 96)),  # a few rows do
        ((3000, 20), (50, 64)),
        ((1, 1), (70, 70)),
        ((1, 100_000), (1, 1)),
        ((100_000, 1), (1, 1)),
        ((5, 6), (3, 3)),  # 2.5 rows are 2,
        ((7, 6), (4, 3)),  # and 3.5 are 4
    ],
    ids=str,
)
def test_extreme_sizes(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    _run(noise(*size), {**ATTRIBUTES, "height": canvas[0], "width": canvas[1]})


def test_photographs(photos: list[np.ndarray]) -> None:
    for photo in photos:
        _run(photo, {**ATTRIBUTES, "height": 320, "width": 320})


def test_rows_of_any_alignment() -> None:
    """A row starts at any byte of 16, and the last one ends with the picture."""
    for width in range(33, 65):
        _run(noise(5, width), {**ATTRIBUTES, "height": 4, "width": 33})


def test_order_of_threads_and_blocks_is_irrelevant() -> None:
    generator = np.random.default_rng(7)
    for _ in range(10):
        image, canvas = _draw(generator)
        attributes = {**ATTRIBUTES, **canvas}
        (found,) = run_every_way("Preprocess", attributes, [image])
        np.testing.assert_array_equal(found, by_pillow(image, attributes))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "canvas"),
    [((37, 53), (20, 35)), ((3, 9), (18, 40)), ((2, 9001), (3, 33)), ((33, 34), (33, 40))],
    ids=str,
)
def test_sanitizers_find_nothing(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    image = noise(*size)
    attributes = {**ATTRIBUTES, "height": canvas[0], "width": canvas[1]}
    (found,) = run_sanitized("Preprocess", attributes, [image])
    np.testing.assert_array_equal(found, by_pillow(image, attributes))
