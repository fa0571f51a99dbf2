"""Shapes of which the picture decides some sides: the others are known, and nothing may lose them.

ONNX's type inference gives up a whole shape where one number that it is made of is computed: a
`Slice` to the number of boxes along axis 0 then has no classes along axis 1 any more. Here each
side is followed by itself, through the operators that change shapes, and so is each number of the
small vectors that shapes are computed with:

    numbers   Shape, Gather, Slice, Concat, Cast, +, -, *, /, … of vectors: (None, 4) of `[N, 4]`
    sides     Slice, Expand, Tile, Pad, Resize, Split, …: what the operator leaves as it was
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from onnx import TensorProto

from .graph import Node, Shape

__all__ = ["PartialShapes"]

_MOST_NUMBERS = 1 << 10  # longer vectors than any shape
_INTEGERS = (int(TensorProto.INT64), int(TensorProto.INT32))
_PASSING = ("Squeeze", "Unsqueeze", "Identity", "Reshape", "Flatten")


class PartialShapes:
    """What is known of shapes and of the vectors that they are computed with, node by node."""

    def __init__(
        self, value: Callable[[str], np.ndarray | None], shape: Callable[[str], Shape | None]
    ) -> None:
        """Ask `value` for constants and `shape` for what is known of a tensor's shape."""
        self._value = value
        self._shape = shape
        self._numbers: dict[str, Shape] = {}

    def numbers(self, name: str) -> Shape | None:
        """Return the integers of the vector or scalar `name`, None where the picture decides.

        Returns:
            None if not even their count is known.
        """
        value = self._value(name)
        if value is not None:
            small = value.ndim <= 1 and value.size <= _MOST_NUMBERS
            whole = small and value.dtype.kind in "iub"
            return tuple(int(v) for v in value.reshape(-1)) if whole else None
        if name in self._numbers:
            return self._numbers[name]
        shape = self._shape(name)
        count = None if shape is None or len(shape) > 1 else _count(shape)
        return None if count is None else (None,) * count

    def follow(self, node: Node) -> Shape | None:
        """Note and return the numbers that `node` gives, if it computes with numbers of a shape."""
        shape = self._shape(node.output)
        count = None if shape is None else _count(shape)
        found = None if count is None else self._found(node)
        if shape is None or found is None or len(found) != count:
            return None
        if len(shape) <= 1:
            self._numbers[node.output] = found
        return found

    def _found(self, node: Node) -> Shape | None:
        if node.op == "Shape":
            shape = self._shape(node.inputs[0])
            given = node.attributes
            return None if shape is None else shape[given.get("start", 0) : given.get("end")]
        if node.op in _ARITHMETIC:
            return self._elementwise(node)
        if node.op == "Cast" and node.attributes["to"] not in _INTEGERS:
            return None
        data = self.numbers(node.inputs[0]) if node.inputs else None
        if data is None:
            return None
        if node.op in (*_PASSING, "Cast"):
            return data
        if node.op == "Concat":
            parts = [self.numbers(name) for name in node.inputs]
            known = [part for part in parts if part is not None]
            return sum(known, ()) if len(known) == len(parts) else None
        if len(self._shape(node.inputs[0]) or ()) != 1:
            return None
        return self._taken(node, data)

    def _taken(self, node: Node, data: Shape) -> Shape | None:
        """Return the numbers that a `Gather` or a `Slice` takes out of `data`."""
        if node.op == "Gather":
            places = self._value(node.inputs[1])
            if places is None or (np.abs(places + 0.5) > len(data)).any():
                return None
            return tuple(data[int(place)] for place in places.reshape(-1))
        if node.op == "Slice":
            part = (self._cuts(node, 1) or {}).get(0)
            return None if part is None else data[part]
        return None

    def _elementwise(self, node: Node) -> Shape | None:
        parts = [self.numbers(name) for name in node.inputs]
        known = [part for part in parts if part is not None]
        length = max((len(part) for part in known), default=0)
        if len(known) < len(parts) or any(len(part) not in (1, length) for part in known):
            return None
        wide = [part * length if len(part) == 1 < length else part for part in known]
        return tuple(_ARITHMETIC[node.op](row) for row in zip(*wide, strict=True))

    def sides(self, node: Node) -> list[int | None] | None:
        """Return what is known of the shape of each output of `node` beyond ONNX's inference."""
        rule = _SIDES.get(node.op)
        return None if rule is None else rule(self, node)

    def _of_slice(self, node: Node) -> list[int | None] | None:
        shape = self._shape(node.inputs[0])
        if shape is None:
            return None
        cuts = self._cuts(node, len(shape))
        if cuts is None:
            return [None] * len(shape)
        return [_cut(side, cuts[axis]) if axis in cuts else side
                for axis, side in enumerate(shape)]  # fmt: skip

    def _cuts(self, node: Node, rank: int) -> dict[int, slice | None] | None:
        """Return what a `Slice` cuts along which axes, None where that is computed.

        Returns:
            None if not even the axes are known.
        """
        if len(node.inputs) < 3:
            return None
        starts, ends = (self.numbers(name) for name in node.inputs[1:3])
        lengths = {len(part) for part in (starts, ends) if part is not None}
        given = [self.numbers(name) if name else () for name in node.inputs[3:5]]
        axes, steps = (*given, (), ())[:2]
        if len(lengths) != 1 or axes is None or None in axes:
            return None
        (count,) = lengths
        axes = tuple(a for a in axes if a is not None) or tuple(range(count))
        steps = (None,) * count if steps is None else steps or (1,) * count
        if len(axes) != count or len(steps) != count or max(axes, default=0) >= rank:
            return None
        nothing: Shape = (None,) * count
        rows = zip(axes, starts or nothing, ends or nothing, steps, strict=True)
        return {axis % rank: None if None in cut or not cut[2] else slice(*cut)
                for axis, *cut in rows}  # fmt: skip

    def _of_reshape(self, node: Node) -> list[int | None] | None:
        shape, wanted = self._shape(node.inputs[0]), self.numbers(node.inputs[1])
        if wanted is None:
            return None
        keeps = not node.attributes.get("allowzero", 0)
        if keeps and any(w == 0 and (shape is None or i >= len(shape))
                         for i, w in enumerate(wanted)):  # fmt: skip
            return None
        sides = [(shape or ())[i] if w == 0 and keeps else w for i, w in enumerate(wanted)]
        return [None if s == -1 else s for s in sides]

    def _of_expand(self, node: Node) -> list[int | None] | None:
        shape, wanted = self._shape(node.inputs[0]), self.numbers(node.inputs[1])
        if shape is None or wanted is None:
            return None
        rank = max(len(shape), len(wanted))
        rows = zip((1,) * (rank - len(shape)) + shape, (1,) * (rank - len(wanted)) + wanted,
                   strict=True)  # fmt: skip
        return [_broadcast(side, other) for side, other in rows]

    def _of_tile(self, node: Node) -> list[int | None] | None:
        shape, times = self._shape(node.inputs[0]), self.numbers(node.inputs[1])
        if shape is None:
            return None
        if times is None or len(times) != len(shape):
            return [None] * len(shape)
        return [None if s is None or t is None else s * t
                for s, t in zip(shape, times, strict=True)]  # fmt: skip

    def _of_pad(self, node: Node) -> list[int | None] | None:
        shape = self._shape(node.inputs[0])
        if shape is None or len(node.inputs) < 2:
            return None
        pads = self.numbers(node.inputs[1])
        given = self.numbers(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else ()
        if pads is None or given is None or None in given:
            return [None] * len(shape)
        axes = [int(a or 0) % len(shape) for a in given] or list(range(len(shape)))
        if len(pads) != 2 * len(axes):
            return [None] * len(shape)
        sides = list(shape)
        for place, axis in enumerate(axes):
            sides[axis] = _sum(sides[axis], pads[place], pads[place + len(axes)])
        return sides

    def _of_resize(self, node: Node) -> list[int | None] | None:
        shape = self._shape(node.inputs[0])
        if shape is None:
            return None
        sizes = self.numbers(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else None
        plain = node.attributes.get("axes") is None
        plain &= node.attributes.get("keep_aspect_ratio_policy", "stretch") == "stretch"
        known = plain and sizes is not None and len(sizes) == len(shape)
        return list(sizes or ()) if known else [None] * len(shape)

    def _of_top_k(self, node: Node) -> list[int | None] | None:
        most = self.numbers(node.inputs[1]) or (None,)
        return self._other_side(node, -1, most[0])

    def _of_split(self, node: Node) -> list[int | None] | None:
        return self._other_side(node, 0, None)

    def _of_compress(self, node: Node) -> list[int | None] | None:
        return self._other_side(node, None, None)

    def _other_side(
        self, node: Node, default: int | None, side: int | None
    ) -> list[int | None] | None:
        """Return the shape of the input with `side` along the axis of `node`."""
        shape, axis = self._shape(node.inputs[0]), node.attributes.get("axis", default)
        if axis is None:
            return [side]
        if shape is None or not -len(shape) <= axis < len(shape):
            return None
        sides = list(shape)
        sides[axis] = side
        return sides

    def _of_constant(self, node: Node) -> list[int | None] | None:
        numbers = self.numbers(node.inputs[0])
        return None if numbers is None else list(numbers)


def _count(shape: Shape) -> int | None:
    """Return how many elements there are, if they are so few that they may belong to a shape."""
    known = [side for side in shape if side is not None]
    count = math.prod(known)
    return count if len(known) == len(shape) and count <= _MOST_NUMBERS else None


def _cut(side: int | None, part: slice | None) -> int | None:
    return None if side is None or part is None else len(range(*part.indices(side)))


def _broadcast(side: int | None, other: int | None) -> int | None:
    """Return the side that two become together, of which an unknown one may be 1."""
    known = [s for s in (side, other) if s not in (None, 1)]
    if known:
        return known[0]
    return 1 if side == other == 1 else None


def _sum(*parts: int | None) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _all_known(of: Callable[..., int]) -> Callable[[Sequence[int | None]], int | None]:
    return lambda row: None if None in row else of(*row)


def _quotient(over: int, under: int) -> int:
    """Divide as ONNX divides integers: what is behind the point is cut off."""
    return 0 if not under else int(math.copysign(abs(over) // abs(under), over * under))


def _chosen(row: Sequence[int | None]) -> int | None:
    return None if row[0] is None else row[1] if row[0] else row[2]


_ARITHMETIC: dict[str, Callable[[Sequence[int | None]], int | None]] = {
    "Add": _all_known(lambda a, b: a + b),
    "Sub": _all_known(lambda a, b: a - b),
    "Mul": _all_known(lambda a, b: a * b),
    "Div": _all_known(_quotient),
    "Min": _all_known(min),
    "Max": _all_known(max),
    "Equal": _all_known(lambda a, b: int(a == b)),
    "Where": _chosen,
}
_SIDES: dict[str, Callable[[PartialShapes, Node], list[int | None] | None]] = {
    "Slice": PartialShapes._of_slice,
    "Reshape": PartialShapes._of_reshape,
    "Expand": PartialShapes._of_expand,
    "Tile": PartialShapes._of_tile,
    "Pad": PartialShapes._of_pad,
    "Resize": PartialShapes._of_resize,
    "TopK": PartialShapes._of_top_k,
    "Split": PartialShapes._of_split,
    "Compress": PartialShapes._of_compress,
    "ConstantOfShape": PartialShapes._of_constant,
}
