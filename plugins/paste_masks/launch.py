"""PasteMasks in one kernel: a block for each tile of each mask."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.masks import MaskPaste
from ..launch import (
    C_TYPES,
    LaunchPlan,
    Stage,
    Tensor,
    at_least_one,
    c_float,
    ceil_div,
    require_at_most,
)
from .schema import FARTHEST, SCHEMA

__all__ = ["plan"]

_MOST = 104  # mask pixels a side: with its ring, the mask lies in shared memory
_THREADS = 256  # a column each, so a tile is as wide
_ROWS = 32  # a tile's: a lane's word each


def plan(attributes: Mapping[str, Any], inputs: Sequence[Tensor]) -> LaunchPlan:
    """Return the launch for `probabilities [B, N, M, M]` and `boxes [B, N, 4]`.

    The picture's size is an argument, so one compiled kernel serves every size.

    Raises:
        UnsupportedTargetError: masks of more than 104 x 104 pixels.
    """
    batch, count, side, _ = inputs[0].shape
    a: dict[str, Any] = SCHEMA.filled(attributes)
    require_at_most(_MOST, side, "pixels a side of a mask for PasteMasks", "choose the target cpu")
    height, width, packed = (a[name] for name in ("height", "width", "packed"))
    paste = MaskPaste(a["paste"])
    columns = ceil_div(width, 32) if packed else width
    masks = Tensor((batch, count, height, columns), "int32" if packed else "uint8")
    tiles = ceil_div(height, _ROWS) * ceil_div(width, _THREADS)
    stage = Stage(
        "paste_masks", ("probabilities", "boxes"), (batch, count, height, width), ("masks",),
        (at_least_one(count * tiles), at_least_one(batch), 1), _THREADS,
    )  # fmt: skip
    defines = {
        "PROBABILITY": C_TYPES[inputs[0].dtype],
        "M": str(side),
        "WIDENING": c_float((side + 2) / side),
        "THRESHOLD": c_float(paste.exceeded(a["threshold"])),
        "FARTHEST": c_float(FARTHEST),
        "PACKED": str(packed),
        "TRUNCATES": str(int(paste is MaskPaste.TORCHVISION)),
        "ROWS": str(_ROWS),
        "THREADS": str(_THREADS),
    }
    return LaunchPlan(
        Path(__file__).with_name("kernel.cu"), defines, ("probabilities", "boxes"), ("masks",),
        {"probabilities": inputs[0], "boxes": inputs[1], "masks": masks}, (stage,),
    )  # fmt: skip
