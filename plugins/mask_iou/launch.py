"""MaskIoU in three kernels: masks to bits, pixels of each mask, pixels that pairs share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..launch import C_TYPES, LaunchPlan, Stage, Tensor, at_least_one, c_float, ceil_div

__all__ = ["plan"]

_THREADS = 256
_WORDS_A_BLOCK = 64  # 32 pixels each: a warp packs eight of them
_TILE = 16  # masks a side of the tile of pairs that a block compares


def plan(attributes: Mapping[str, Any], inputs: Sequence[Tensor]) -> LaunchPlan:
    """Return the launches for `masks [B, N, H, W]`."""
    batch, count, height, width = inputs[0].shape
    pixels = height * width
    words = ceil_div(pixels, 32)
    tensors = {
        "masks": inputs[0],
        "bits": Tensor((batch, count, words), "int32"),
        "area": Tensor((batch, count), "float32"),
        "iou": Tensor((batch, count, count), "float32"),
    }
    tiles = at_least_one(ceil_div(count, _TILE))
    pack = Stage(
        "mask_bits", ("masks",), (pixels, count), ("bits",),
        (at_least_one(ceil_div(words, _WORDS_A_BLOCK)), at_least_one(count), at_least_one(batch)),
        _THREADS,
    )  # fmt: skip
    measure = Stage(
        "mask_area", ("bits",), (pixels, count), ("area",),
        (at_least_one(ceil_div(count, _THREADS // 32)), at_least_one(batch), 1), _THREADS,
    )  # fmt: skip
    compare = Stage(
        "mask_iou", ("bits", "area"), (pixels, count), ("iou",),
        (tiles, tiles, at_least_one(batch)), _TILE * _TILE,
    )  # fmt: skip
    defines = {
        "MASK": C_TYPES[inputs[0].dtype],
        "THRESHOLD": c_float(attributes["threshold"]),
        "THREADS": str(_THREADS),
        "WORDS_A_BLOCK": str(_WORDS_A_BLOCK),
        "TILE": str(_TILE),
    }
    return LaunchPlan(
        Path(__file__).with_name("kernel.cu"), defines, ("masks",), ("iou", "area"), tensors,
        (pack, measure, compare),
    )  # fmt: skip
