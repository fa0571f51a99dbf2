"""Masks pasted by the device: 32 pixels a word, unpacked when they are asked for.

Pixel x is bit `x mod 32` of word `x div 32`, the least significant bit first (PasteMasks' schema).
"""

import numpy as np

from ..core.masks import Crop, crops_of

__all__ = ["PackedMasks"]


class PackedMasks:
    """Masks as words (a `MaskSource`)."""

    def __init__(self, words: np.ndarray, width: int) -> None:
        """Keep little-endian int32 `[N, height, ceil(width / 32)]`."""
        self._words, self._width = words, width

    def __call__(self) -> np.ndarray:
        """Return bool `[N, height, width]`."""
        raw = np.ascontiguousarray(self._words).view(np.uint8)
        bits = np.unpackbits(raw, axis=-1, count=self._width, bitorder="little")
        return bits.view(bool)

    def crops(self) -> list[Crop]:
        """Return the N crops, one unpacked at a time."""
        return [crops_of(self.select(np.array([i]))())[0] for i in range(len(self._words))]

    def select(self, keep: np.ndarray) -> "PackedMasks":
        """Return the masks that the index or bool array `keep` names."""
        return PackedMasks(self._words[keep], self._width)
