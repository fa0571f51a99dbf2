"""Masks over the canvas → masks over each detection's box, for programs that know no others.

    masks [B, D, h, w]  ─▶  masks [B, D, 64, 64]

Elements of a canvas mask lie `c` canvas pixels apart, the first at `f` (`core.masks.MaskFrame`).
Sample k of M along a box from `x1` to `x2` lies at

    x = x1 + (k + 1/2) (x2 - x1) / M,     in GridSample's coordinates  (2 (x - f) / c + 1) / w - 1

    frame         c       f
    CANVAS        4       2
    CANVAS_LATE   4       2.5
    CANVAS_EVEN   W / w   c / 2

and takes the four elements around it, bilinearly; beyond the canvas it is its edge. What a mask has
outside its box is lost, and what is finer than a 64th of the box is blurred.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...core import UnsupportedModelError
from ...core.masks import MaskFrame

__all__ = ["SIDE", "lay_over_boxes"]

SIDE = 64
_STRIDE = 4.0  # canvas pixels an element
_LATE_PX = 0.5
_PREFIX = "masks.over_boxes"


def lay_over_boxes(model: onnx.ModelProto, frame: MaskFrame, canvas_size: tuple[int, int]) -> None:
    """Change the output `masks` in place.

    Args:
        model: with the outputs `boxes` float32 `[B, D, 4]`, xyxy in canvas pixels, and `masks`
            float32 `[B, D, h, w]`.
        frame: how the masks' elements lie on the canvas; one of the CANVAS kinds.
        canvas_size: `(height, width)` of the input in pixels.

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
    lines = [
        _Line.of(frame, pixels, elements)
        for pixels, elements in zip(canvas_size, shape[2:], strict=True)
    ]
    _add_nodes(graph, shape[0], shape[1], lines)
    kind = helper.make_tensor_value_info("masks", TensorProto.FLOAT, [*shape[:2], SIDE, SIDE])
    output.CopyFrom(kind)


class _Line(NamedTuple):
    """Elements along one axis of the canvas: how many, how far apart, and where the first lies."""

    elements: int
    apart_px: float
    first_px: float

    @classmethod
    def of(cls, frame: MaskFrame, pixels: int, elements: int) -> "_Line":
        apart = pixels / elements if frame.is_even else _STRIDE
        late = _LATE_PX if frame is MaskFrame.CANVAS_LATE else 0.0
        return cls(elements, apart, apart / 2 + late)

    @property
    def scale(self) -> float:
        """What a canvas pixel is multiplied with."""
        return 2 / (self.apart_px * self.elements)

    @property
    def offset(self) -> float:
        """What is then subtracted."""
        return 1 - (1 - 2 * self.first_px / self.apart_px) / self.elements


def _add_nodes(graph: onnx.GraphProto, batch: int, count: int, lines: list[_Line]) -> None:
    total, (rows, columns) = batch * count, lines

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
    axis = shape("axis", 2)
    grids = []
    for place, (name, along) in enumerate((("x", columns), ("y", rows))):
        edges = []
        for edge in (place, place + 2):
            first, end = (shape(f"{name}.{at}", at) for at in (edge, edge + 1))
            edges.append(op("Slice", ["boxes", first, end, axis], f"{name}.edge.{edge}"))
        inside = op("Mul", [op("Sub", edges[::-1], f"{name}.size"), steps], f"{name}.inside")
        at = op("Add", [edges[0], inside], f"{name}.at")
        scale = constant(f"{name}.scale", np.array([along.scale], np.float32))
        offset = constant(f"{name}.offset", np.array([along.offset], np.float32))
        grid = op("Sub", [op("Mul", [at, scale], f"{name}.scaled"), offset], f"{name}.grid")
        spread = (total, 1, SIDE, 1) if name == "x" else (total, SIDE, 1, 1)
        line = op("Reshape", [grid, shape(f"{name}.line", *spread)], f"{name}.lines")
        plane = shape(f"{name}.plane", total, SIDE, SIDE, 1)
        grids.append(op("Expand", [line, plane], f"{name}.planes"))
    apart = shape("one.by.one", total, 1, rows.elements, columns.elements)
    canvas = op("Reshape", [f"{_PREFIX}.canvas", apart], "separate")
    sampled = op("GridSample", [canvas, op("Concat", grids, "points", axis=3)], "sampled",
                 mode="bilinear", padding_mode="border", align_corners=0)  # fmt: skip
    whole = shape("whole", batch, count, SIDE, SIDE)
    graph.node.append(helper.make_node("Reshape", [sampled, whole], ["masks"], f"{_PREFIX}.masks"))
