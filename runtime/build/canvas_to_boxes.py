"""Masks over the canvas → masks over each detection's box, for programs that know no others.

    masks [B, D, h, w]  ─▶  masks [B, D, 64, 64]

Element (i, j) of a canvas mask is the probability at the centre of its 4 x 4 canvas pixels
(`core.masks.MaskFrame`). Sample k of M along a box from `x1` to `x2` lies at

    x = x1 + (k + 1/2) (x2 - x1) / M,     in GridSample's coordinates  x / (2 w) - 1

and takes the four elements around it, bilinearly; beyond the canvas it is its edge. What a mask has
outside its box is lost, and what is finer than a 64th of the box is blurred.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...core import UnsupportedModelError

__all__ = ["SIDE", "lay_over_boxes"]

SIDE = 64
_STRIDE = 4  # canvas pixels an element
_PREFIX = "masks.over_boxes"


def lay_over_boxes(model: onnx.ModelProto) -> None:
    """Change the output `masks` in place.

    Args:
        model: with the outputs `boxes` float32 `[B, D, 4]`, xyxy in canvas pixels, and `masks`
            float32 `[B, D, h, w]`.

    Raises:
        UnsupportedModelError: the graph does not state the masks' shape.
    """
    graph = model.graph
    output = next(o for o in graph.output if o.name == "masks")
    shape = [dim.dim_value for dim in output.type.tensor_type.shape.dim]
    if len(shape) != 4 or not all(shape):
        raise UnsupportedModelError(
            f"the graph's masks have the shape {shape}, and [B, D, h, w] is needed to lay them "
            "over boxes: export the model again."
        )
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{_PREFIX}.canvas" if name == "masks" else name for name in names]
    _add_nodes(graph, *shape)
    kind = helper.make_tensor_value_info("masks", TensorProto.FLOAT, [*shape[:2], SIDE, SIDE])
    output.CopyFrom(kind)


def _add_nodes(graph: onnx.GraphProto, batch: int, count: int, height: int, width: int) -> None:
    total = batch * count

    def constant(name: str, value: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(value, f"{_PREFIX}.{name}"))
        return f"{_PREFIX}.{name}"

    def op(kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        made = f"{_PREFIX}.{name}"
        graph.node.append(helper.make_node(kind, inputs, [made], made, **attributes))
        return made

    def shape(name: str, *extents: int) -> str:
        return constant(name, np.array(extents, np.int64))

    steps = constant("steps", ((np.arange(SIDE) + 0.5) / SIDE).astype(np.float32))
    one = constant("one", np.array([1], np.float32))
    axis = constant("axis", np.array([2], np.int64))
    grids = []
    for place, (name, extent) in enumerate((("x", width), ("y", height))):
        edges = []
        for edge in (place, place + 2):
            first, last = shape(f"{name}.from.{edge}", edge), shape(f"{name}.to.{edge}", edge + 1)
            edges.append(op("Slice", ["boxes", first, last, axis], f"{name}.{edge}"))
        inside = op("Mul", [op("Sub", edges[::-1], f"{name}.size"), steps], f"{name}.inside")
        at = op("Add", [edges[0], inside], f"{name}.at")
        scale = constant(f"{name}.scale", np.array([2 / (_STRIDE * extent)], np.float32))
        grid = op("Sub", [op("Mul", [at, scale], f"{name}.scaled"), one], f"{name}.grid")
        spread = (total, 1, SIDE, 1) if name == "x" else (total, SIDE, 1, 1)
        line = op("Reshape", [grid, shape(f"{name}.line", *spread)], f"{name}.lines")
        plane = shape(f"{name}.plane", total, SIDE, SIDE, 1)
        grids.append(op("Expand", [line, plane], f"{name}.planes"))
    canvas = op("Reshape", [f"{_PREFIX}.canvas", shape("one.by.one", total, 1, height, width)],
                "separate")  # fmt: skip
    sampled = op("GridSample", [canvas, op("Concat", grids, "points", axis=3)], "sampled",
                 mode="bilinear", padding_mode="border", align_corners=0)  # fmt: skip
    whole = shape("whole", batch, count, SIDE, SIDE)
    graph.node.append(helper.make_node("Reshape", [sampled, whole], ["masks"], f"{_PREFIX}.masks"))
