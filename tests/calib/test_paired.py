"""Weights in pairs that fit into 16 bits: they fit, and are as near as 127 levels almost allow."""

import numpy as np
import pytest

from maskrt.calib.render._paired import paired_levels
from maskrt.calib.scales import symmetric_scale
from maskrt.core.paired_products import pairs_fit

SHAPES = [(16, 576), (8, 63), (3, 1), (1100, 4000)]


def _noise_db(rows: np.ndarray, levels: np.ndarray, scale: np.ndarray) -> float:
    error = rows - levels * scale[:, None].astype(np.float64)
    ratio = np.square(error).sum() / np.square(rows).sum()
    return float(10 * np.log10(max(ratio, 1e-12)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tails", ["normal", "heavy", "flat"])
def test_all_pairs_fit_and_never_worse_than_64_levels(shape: tuple[int, int], tails: str) -> None:
    generator = np.random.default_rng(0)
    draw = {
        "normal": generator.normal,
        "heavy": lambda size: generator.standard_t(4, size),
        "flat": lambda size: generator.uniform(-1, 1, size),
    }[tails]
    rows = draw(size=shape).astype(np.float32)
    scale = symmetric_scale(np.abs(rows).max(axis=1))
    levels, scales = paired_levels(rows, scale)
    assert levels.dtype == np.int8
    assert pairs_fit(levels, "Gemm", transposed=True)
    assert (scales >= scale).all()
    plain = np.clip(np.rint(rows / scale[:, None]), -127, 127)
    narrow = np.clip(np.rint(rows / (scale * 127 / 64)[:, None]), -64, 64)
    found = _noise_db(rows, levels, scales)
    assert found <= _noise_db(rows, narrow, scale * 127 / 64) + 1e-6
    if tails == "heavy" and rows.shape[1] > 500:
        # Large weights are rare there: hardly anything is lost.
        assert found < _noise_db(rows, plain, scale) + 1.5


def test_rows_without_large_neighbours_are_as_they_were() -> None:
    rows = np.tile(np.float32([1.0, 0.0, -1.0, 0.5, 0.25, 0.25]), (4, 5))
    scale = symmetric_scale(np.abs(rows).max(axis=1))
    levels, scales = paired_levels(rows, scale)
    np.testing.assert_array_equal(scales, scale)
    np.testing.assert_array_equal(levels, np.rint(rows / scale[:, None]))


def test_a_pair_that_is_too_large_gives_half_from_each() -> None:
    rows = np.float32([[100, 90] + [0.01] * 400 + [126.99, -127]])
    levels, scales = paired_levels(rows, np.float32([1.0]))
    if scales[0] == 1.0:
        assert levels[0, :2].tolist() == [69, 59]
    assert pairs_fit(levels, "Gemm", transposed=True)


def test_a_dead_row_stays_dead() -> None:
    levels, scales = paired_levels(np.zeros((2, 8), np.float32), np.float32([2.0**-24] * 2))
    assert not levels.any()
    np.testing.assert_array_equal(scales, np.float32([2.0**-24] * 2))
