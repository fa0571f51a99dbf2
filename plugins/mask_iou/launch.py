"""MaskIoU in two kernels: masks to bits, then the pixels that pairs of masks share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..launch import C_TYPES, LaunchPlan, Stage, Tensor, at_least_one, c_float, ceil_div
from .schema import require_countable

__all__ = ["plan"]

_THREADS = 256
_TILE = 16  # masks a side of the tile of pairs that a block compares


def plan(attributes: Mapping[str, Any], inputs: Sequence[Tensor]) -> LaunchPlan:
    """Return the launches for `masks [B, N, H, W]`.

    Raises:
        UnsupportedModelError: masks of more than 2^24 pixels.
    """
    batch, count, height, width = inputs[0].shape
    require_countable(height, width)
    masks, pixels = batch * count, height * width
    words = ceil_div(pixels, 128) * 4  # 32 pixels each; masks start on 16 bytes
    tensors = {
        "masks": inputs[0],
        "bits": Tensor((batch, count, words), "int32"),
        "iou": Tensor((batch, count, count), "float32"),
        "area": Tensor((batch, count), "float32"),
    }
    warps = masks * ceil_div(words, 32)
    pack = Stage(
        "mask_bits", ("masks",), (masks, pixels, words), ("bits",),
        (at_least_one(ceil_div(warps, _THREADS // 32)), 1, 1), _THREADS,
    )  # fmt: skip
    tiles = at_least_one(ceil_div(count, _TILE))
    compare = Stage(
        "mask_iou", ("bits",), (count, words), ("iou", "area"),
        (tiles, tiles, at_least_one(batch)), _THREADS,
    )  # fmt: skip
    defines = {
        "MASK": C_TYPES[inputs[0].dtype],
        "THRESHOLD": c_float(attributes["threshold"]),
        "THREADS": str(_THREADS),
        "TILE": str(_TILE),
    }
    return LaunchPlan(
        Path(__file__).with_name("kernel.cu"), defines, ("masks",), ("iou", "area"), tensors,
        (pack, compare),
    )  # fmt: skip
