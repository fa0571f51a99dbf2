"""Pairs of weights whose products with uint8 data fit into 16 bits together.

A kernel without dot products of bytes multiplies two neighbours with `vpmaddubsw` and adds them in
16 bits. Data is 0 to 255, so the sum of a pair is exact if its weights have different signs, or if
their magnitudes are at most 128 together:

    255 · 128 = 32640 <= 32767

Neighbours are those along the input channels, kernel position by kernel position.
"""

import numpy as np

__all__ = ["LARGEST_PAIR", "in_pairs", "pairs_fit", "product_rows"]

LARGEST_PAIR = 128


def product_rows(weight: np.ndarray, op_type: str, *, transposed: bool = False) -> np.ndarray:
    """Return weights as `[M, K]`: a row for each output channel, in the order of the products.

    Args:
        weight: `[M, C, ...]` of a Conv, `[K, N]` of a MatMul or Gemm.
        op_type: `"Conv"`, `"Gemm"` or `"MatMul"`.
        transposed: the weight of a Gemm is `[N, K]`.
    """
    if op_type == "Conv":
        return np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
    return weight if transposed else weight.T


def in_pairs(rows: np.ndarray) -> np.ndarray:
    """Return `[M, K]` as pairs `[M, ceil(K / 2), 2]`; a zero fills up the last one."""
    padded = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
    return padded.reshape(len(rows), -1, 2)


def pairs_fit(weight: np.ndarray, op_type: str, *, transposed: bool = False) -> bool:
    """Whether the products of every pair of integer weights are exact in 16 bits.

    Args:
        weight: int8, in the shape that `product_rows` takes.
        op_type: likewise.
        transposed: likewise.
    """
    axis = 1 if op_type == "Conv" or transposed else 0
    if weight.shape[axis] % 2:  # a pair may lie across kernel positions
        pairs = in_pairs(product_rows(weight, op_type, transposed=transposed))
        first, second = pairs[..., 0], pairs[..., 1]
    else:
        whole = (slice(None),) * axis
        even, odd = (*whole, slice(0, None, 2)), (*whole, slice(1, None, 2))
        first, second = weight[even], weight[odd]
    sums = np.add(first, second, dtype=np.int16)
    return bool(sums.max(initial=0) <= LARGEST_PAIR and sums.min(initial=0) >= -LARGEST_PAIR)
