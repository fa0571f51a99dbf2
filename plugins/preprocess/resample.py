"""Pillow's bilinear resampling as numbers: where the picture lies, and what each pixel is made of.

Shared by the reference and the ONNX bodies; the kernel computes the same on the device. All of it
is float64 in Pillow's order of operations, so the fixed-point weights are Pillow's, bit for bit.

Source: Pillow, src/libImaging/Resample.c, `precompute_coeffs` and `normalize_coeffs_8bpc`.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["PRECISION_BITS", "Taps", "placed_size", "resampling_taps"]

PRECISION_BITS = 22


class Taps(NamedTuple):
    """Output pixel x is `round(sum over t of weights[x, t] · source[first[x] + t] / 2²²)`.

    Attributes:
        first: int64 `[outputs]`.
        weights: int64 `[outputs, taps]`, 0 to 2²²; a tap beyond the source weighs 0.
    """

    first: np.ndarray
    weights: np.ndarray


def placed_size(picture: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """Return the `(h', w')` that a picture of `(H, W)` covers at the top left of the canvas."""
    scale = min(canvas[0] / picture[0], canvas[1] / picture[1])
    height, width = (
        min(max(round(extent * scale), 1), limit)
        for extent, limit in zip(picture, canvas, strict=True)
    )
    return height, width


def resampling_taps(source: int, outputs: int) -> Taps:
    """Return the taps that make `outputs` pixels of `source` pixels."""
    scale = source / outputs
    support = max(scale, 1.0)
    centre = (np.arange(outputs) + 0.5) * scale
    # Pillow truncates; it clips to 0 from below afterwards, and -0.5 to 0 truncates to 0.
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support + 0.5).astype(np.int64), source)
    tap = np.arange((stop - first).max())
    distance = (tap + first[:, None] - centre[:, None] + 0.5) * (1.0 / support)
    weights = np.maximum(1.0 - np.abs(distance), 0.0) * (tap < (stop - first)[:, None])
    total = np.cumsum(weights, axis=1)[:, -1:]  # from left to right, unlike np.sum
    fixed = 0.5 + weights / total * (1 << PRECISION_BITS)
    return Taps(first, fixed.astype(np.int64))
