"""How a RoiAlign is aligned: by its attribute, or by moving its boxes, which is older.

    RoiAlign(boxes, half_pixel) = RoiAlign(boxes - 0.5 / spatial_scale, output_half_pixel)

Below opset 16 there is no such attribute, and mmdeploy writes the right-hand side. Both agree but
for boxes narrower than a cell of the feature map, see `widened.py`.
"""

import numpy as np

from .declined import Declined
from .graph import Graph, Node
from .walk import strip

__all__ = ["aligned_outside", "half_pixel"]


def aligned_outside(graph: Graph, rule: str, node: Node) -> tuple[str, bool]:
    """Return the boxes that `node` pools before they were moved by half a cell, and if they were.

    Raises:
        Declined: they are moved by something else.
    """
    name = strip(graph, node.inputs[1], ("Identity", "Cast"))
    maker = graph.maker(name)
    if maker is None or maker.op not in ("Add", "Sub"):
        return name, False
    by, boxes = graph.value(maker.inputs[1]), maker.inputs[0]
    if by is None and maker.op == "Add":
        by, boxes = graph.value(maker.inputs[0]), maker.inputs[1]
    if by is None:
        return name, False
    half = -0.5 / float(node.attributes.get("spatial_scale", 1.0))
    moved = by if maker.op == "Add" else -by
    if not np.allclose(moved, half, rtol=1e-5) or half_pixel(graph, node) == "half_pixel":
        raise Declined(
            rule, f"boxes are moved by {float(moved.reshape(-1)[0]):g} pixels before they are "
            f"pooled, and {half:g} alone is known, which aligns them", maker,
        )  # fmt: skip
    return boxes, True


def half_pixel(graph: Graph, node: Node) -> str:
    """Return the coordinate transformation of a RoiAlign; before opset 16 there is but one."""
    default = "outputhalf_pixel" if graph.opset < 16 else "half_pixel"
    return str(node.attributes.get("coordinate_transformation_mode", default))
