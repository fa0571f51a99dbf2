"""Preprocess in two kernels: the weights of every column and row, then the canvas tile by tile."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..launch import C_TYPES, Dim, LaunchPlan, Stage, Tensor, c_floats, ceil_div

__all__ = ["plan"]

_THREADS = 256
_TAP_THREADS = 32  # few, so that the doubles are spread over all multiprocessors
_TILE_ROWS = 16  # of 32 columns: a lane each
_CHUNK = 32  # source rows at a time, whose resampled rows lie in shared memory
_STAGED = 768  # 16 bytes each of the picture, in shared memory


def plan(attributes: Mapping[str, Any], inputs: Sequence[Tensor]) -> LaunchPlan:
    """Return the launches for `image [H, W, 3]`.

    The sizes of picture and canvas are arguments, so one compiled kernel serves all of them.
    """
    height, width, _ = inputs[0].shape
    rows, columns = attributes["height"], attributes["width"]
    result = "float16" if attributes["half"] else "float32"
    sizes = (height, width, rows, columns)
    tensors = {
        "image": inputs[0],
        "placed": Tensor((2,), "int32"),
        "row_first": Tensor((rows,), "int32"),
        "row_weights": Tensor((_most_taps(height, rows),), "int32"),
        "column_first": Tensor((columns,), "int32"),
        "column_weights": Tensor((_most_taps(width, columns),), "int32"),
        "tensor": Tensor((1, 3, rows, columns), result),
    }
    scratch = tuple(tensors)[1:-1]
    taps = Stage(
        "preprocess_taps", ("image",), sizes, scratch,
        (ceil_div(rows + columns, _TAP_THREADS), 1, 1), _TAP_THREADS,
    )  # fmt: skip
    canvas = Stage(
        "preprocess", ("image", *scratch), sizes, ("tensor",),
        (ceil_div(columns, 32), ceil_div(rows, _TILE_ROWS), 1), _THREADS,
    )  # fmt: skip
    defines = {
        "RESULT": C_TYPES[result],
        "PAD_VALUE": c_floats(attributes["pad_value"]),
        "MEAN": c_floats(attributes["mean"]),
        "STD": c_floats(attributes["std"]),
        "THREADS": str(_THREADS),
        "TAP_THREADS": str(_TAP_THREADS),
        "TILE_ROWS": str(_TILE_ROWS),
        "CHUNK": str(_CHUNK),
        "STAGED": str(_STAGED),
    }
    return LaunchPlan(
        Path(__file__).with_name("kernel.cu"), defines, ("image",), ("tensor",), tensors,
        (taps, canvas),
    )  # fmt: skip


def _most_taps(source: Dim, canvas: int) -> Dim:
    """Return a bound of the weights of one axis.

    A pixel of `n` has at most `2 max(source / n, 1) + 6` weights, zeros included, and n ≤ canvas.
    """
    return source * 2 + 8 * canvas
