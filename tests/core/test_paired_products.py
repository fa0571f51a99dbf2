"""Which integer weights fit into 16 bits in pairs, held against the saturating instruction."""

import numpy as np
import pytest

from maskrt.core.paired_products import in_pairs, pairs_fit, product_rows


def _saturates(rows: np.ndarray) -> bool:
    """Whether `vpmaddubsw` would saturate on any data: 0 or 255, whichever is worse, of each."""
    rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).astype(np.int64)
    sums = [255 * a * rows[:, ::2] + 255 * b * rows[:, 1::2] for a in (0, 1) for b in (0, 1)]
    return any(((s > 32767) | (s < -32768)).any() for s in sums)


@pytest.mark.parametrize(
    ("op_type", "shape", "transposed"),
    [
        ("Conv", (4, 6, 3, 3), False), ("Conv", (4, 5, 3, 3), False), ("Conv", (4, 5, 1, 1), False),
        ("Gemm", (7, 4), False), ("Gemm", (8, 4), False), ("Gemm", (4, 7), True),
        ("Gemm", (4, 8), True), ("MatMul", (8, 4), False),
    ],
)  # fmt: skip
def test_weights_fit_if_no_pair_saturates(
    op_type: str, shape: tuple[int, ...], transposed: bool
) -> None:
    generator = np.random.default_rng(0)
    found = set()
    for largest in (60, 66, 70, 127):
        for _ in range(20):
            weight = generator.integers(-largest, largest + 1, shape).astype(np.int8)
            rows = product_rows(weight, op_type, transposed=transposed)
            fits = pairs_fit(weight, op_type, transposed=transposed)
            assert fits is not _saturates(rows)
            found.add(fits)
    assert found == {True, False}


def test_the_largest_pair_that_fits_and_the_least_that_does_not() -> None:
    for pair, fits in (((64, 64), True), ((127, 1), True), ((127, 2), False), ((65, 64), False),
                       ((-64, -64), True), ((-127, -2), False), ((127, -127), True)):  # fmt: skip
        weight = np.array([pair], np.int8)
        assert pairs_fit(weight, "Gemm", transposed=True) is fits
        assert _saturates(weight) is not fits


def test_rows_run_along_the_channels_of_each_kernel_position() -> None:
    weight = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    rows = product_rows(weight, "Conv")
    assert rows[1, :4].tolist() == [weight[1, c, 0, 0] for c in range(3)] + [weight[1, 0, 0, 1]]
    assert in_pairs(rows[:, :3]).tolist()[0] == [[0, 4], [8, 0]]
