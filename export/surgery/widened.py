"""Boxes narrower than a cell of their feature map, widened to one as an unaligned RoIAlign does.

    cell = 1 / scale of the level;  far = max(far, near + cell)         for x and y alike

mmdeploy aligns below opset 16 by moving boxes before an unaligned RoiAlign, which takes no side for
less than a cell. An aligned MultilevelRoIAlign on widened boxes gives the same, as long as widening
moves no box to another level: its level follows from its own area.
"""

from typing import Any

import numpy as np
from onnx import TensorProto

from .declined import Declined
from .emitter import Emitter
from .graph import Node

__all__ = ["check_levels_stay", "least_sides"]

RULE = "pyramid"


def least_sides(out: Emitter, boxes: str, attributes: dict[str, Any]) -> str:
    """Write `boxes [B, N, 4]` with sides of at least a cell; return the result.

    Args:
        out: where to.
        boxes: its name there.
        attributes: those of the MultilevelRoIAlign that pools it.
    """
    near, far = out.slice_last(boxes, 0, 2), out.slice_last(boxes, 2, 4)
    sides = out.op("Sub", far, near)
    cells, areas = _cells(attributes), _least_areas(attributes)
    cell = out.constant(cells[0])
    if len(areas):
        area = out.op("Mul", out.slice_last(sides, 0, 1), out.slice_last(sides, 1, 2))
        reached = out.op("Cast", out.op("GreaterOrEqual", area, out.constant(areas)),
                         to=int(TensorProto.FLOAT))  # fmt: skip
        steps = out.op("Mul", reached, out.constant(np.diff(cells)))
        cell = out.op("Add", out.op("ReduceSum", steps, out.ints(-1), keepdims=1), cell)
    wide = out.op("Where", out.op("Less", sides, cell), out.op("Add", near, cell), far)
    return str(out.op("Concat", near, wide, axis=-1))


def check_levels_stay(attributes: dict[str, Any], size: tuple[int, int], node: Node) -> None:
    """Decline if a box inside of a picture `size` may be widened onto another level."""
    cells, areas = _cells(attributes), _least_areas(attributes)
    if any(cell * max(*size, cell) >= area for cell, area in zip(cells, areas, strict=False)):
        raise Declined(
            RULE, "boxes narrower than a cell of their map count as one cell wide, since RoiAlign "
            "is aligned by moving its boxes, and here that may change a box's level: export with "
            "opset_version=16 or later, which aligns inside", node,
        )  # fmt: skip


def _cells(attributes: dict[str, Any]) -> np.ndarray:
    return 1 / np.array(attributes["spatial_scales"], np.float64)


def _least_areas(attributes: dict[str, Any]) -> np.ndarray:
    """Return the area from which on a box is of level 1, 2, ..."""
    count = len(attributes["spatial_scales"])
    level = attributes["min_level"] + np.arange(1, count)
    shift = level - attributes["canonical_level"] - attributes["level_epsilon"]
    return np.asarray((attributes["canonical_scale"] * 2.0**shift) ** 2)
