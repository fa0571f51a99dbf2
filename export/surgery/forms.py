"""One form for each way to index: exporters write the same choice of rows in several ways.

    GatherND(data, Unsqueeze(i, -1))              = Gather(data, i)
    GatherND(data [1, N, …], (0, i))              = Gather(data[0], i)
    GatherND(data, Transpose(NonZero(mask)))      = Gather(flat data, NonZero(flat mask))
    column 1 of Transpose(NonZero(mask [R, K]))   = Gather(flat numbers, NonZero(flat mask))
    ScatterND(data, all of a slice, updates)      = Concat(before the slice, updates, behind it)

with `flat` joining the axes of the mask, and `numbers` counting 0 to K - 1 in each of its rows. The
rules then know `Gather` and `NonZero` of one axis alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .graph import Node, Shape

__all__ = ["Known", "one_form"]


@dataclass(frozen=True)
class Known:
    """What the forms ask of the graph so far, and how they add to it."""

    maker: Callable[[str], Node | None]
    value: Callable[[str], np.ndarray | None]
    shape: Callable[[str], Shape | None]
    constant: Callable[[np.ndarray], str]
    fresh: Callable[[], str]
    opset: int
    made: dict[tuple[str, str], str] = field(default_factory=dict)  # what was done to a mask before


def one_form(node: Node, known: Known) -> list[Node] | None:
    """Return nodes that compute what `node` does, or None if it stays as it is."""
    if node.op == "GatherND" and not node.attributes.get("batch_dims", 0):
        for form in (_gather, _gather_of_one, _masked):
            if (found := form(node, known)) is not None:
                return found
    if node.op == "ScatterND":
        return _assigned(node, known)
    if node.op == "Gather" and node.attributes.get("axis", 0) in (1, -1):
        return _column(node, known)
    return None


def _gather(node: Node, known: Known) -> list[Node] | None:
    data, index = node.inputs
    shape = known.shape(index)
    if shape is None or shape[-1] != 1:
        return None
    maker = known.maker(index)
    if maker is not None and maker.op == "Unsqueeze" and _axes(maker, known) == [len(shape) - 1]:
        return [Node("Gather", (data, maker.inputs[0]), node.outputs, {"axis": 0}, node.label)]
    return [*_squeezed(index, len(shape) - 1, known, name := known.fresh()),
            Node("Gather", (data, name), node.outputs, {"axis": 0}, node.label)]  # fmt: skip


def _gather_of_one(node: Node, known: Known) -> list[Node] | None:
    """Rows of `data[0]`, where the first index is zero throughout."""
    data, index = node.inputs
    shape, pairs, maker = known.shape(data), known.shape(index), known.maker(index)
    if shape is None or pairs is None or shape[0] != 1 or pairs[-1] != 2 or maker is None:
        return None
    if maker.op != "Concat" or len(maker.inputs) != 2 or len(shape) < 2:
        return None
    first = known.value(maker.inputs[0])
    if first is None or first.any():
        return None
    one, places = known.fresh(), known.fresh()
    return [
        *_squeezed(data, 0, known, one),
        *_squeezed(maker.inputs[1], len(pairs) - 1, known, places),
        Node("Gather", (one, places), node.outputs, {"axis": 0}, node.label),
    ]


def _assigned(node: Node, known: Known) -> list[Node] | None:
    """A slice along one axis that is written over, `data[..., a:b] = updates`."""
    data, indices, updates = node.inputs
    shape, places = known.shape(data), known.value(indices)
    if shape is None or places is None or None in shape or node.attributes.get(
        "reduction", "none"
    ) != "none" or places.shape[-1] != len(shape) or places.ndim != len(shape) + 1:  # fmt: skip
        return None
    sides = [int(side or 0) for side in shape]
    written = places.shape[:-1]
    first = places.reshape(-1, len(shape))[0] if places.size else np.zeros(len(shape), np.int64)
    cut = [k for k, side in enumerate(sides) if written[k] != side]
    for k in range(len(shape)):
        line = np.arange(written[k]).reshape([-1 if j == k else 1 for j in range(len(shape))])
        if (places[..., k] != first[k] + line).any():
            return None
    if len(cut) != 1 or not places.size or min(first) < 0:
        return None
    axis, start = cut[0], int(first[cut[0]])
    parts, nodes = [], []
    for low, high in ((0, start), (start + written[axis], sides[axis])):
        if low < high:
            parts.append(known.fresh())
            bounds = (_ints(known, low), _ints(known, high), _ints(known, axis))
            nodes.append(Node("Slice", (data, *bounds), (parts[-1],), {}, node.label))
    parts.insert(1 if start else 0, updates)
    return [*nodes, Node("Concat", tuple(parts), node.outputs, {"axis": axis}, node.label)]


def _masked(node: Node, known: Known) -> list[Node] | None:
    data, index = node.inputs
    mask = _mask_of(index, known)
    shape = known.shape(data)
    inside = None if mask is None else known.shape(mask)
    if mask is None or shape is None or inside is None or None in shape[len(inside) :]:
        return None
    rest = [int(side or 0) for side in shape[len(inside) :]]
    rows, nodes = _nonzero(mask, node, known)
    flat = known.fresh()
    return [
        *nodes,
        Node("Reshape", (data, _ints(known, -1, *rest)), (flat,), {}, node.label),
        Node("Gather", (flat, rows), node.outputs, {"axis": 0}, node.label),
    ]


def _column(node: Node, known: Known) -> list[Node] | None:
    """Which entry of its row each true entry of a mask is, or each chosen one of them."""
    index, taken = node.inputs[0], known.value(node.inputs[1])
    if taken is None or taken.reshape(-1).tolist() not in ([1], [-1]) or taken.ndim:
        return None
    chosen = known.maker(index)
    picks = chosen is not None and chosen.op == "Gather" and chosen.attributes.get("axis", 0) == 0
    if picks and chosen is not None:
        index = chosen.inputs[0]
    mask = _mask_of(index, known)
    if mask is None:
        return None
    numbers, nodes = _numbers(mask, node, known)
    if numbers is None:
        return None
    if picks and chosen is not None:
        last = Node("Gather", (numbers, chosen.inputs[1]), node.outputs, {"axis": 0}, node.label)
    else:
        last = Node("Identity", (numbers,), node.outputs, {}, node.label)
    return [*nodes, last]


def _numbers(mask: str, node: Node, known: Known) -> tuple[str | None, list[Node]]:
    """Return the numbers within their rows of the true entries of `mask [R, K]`."""
    if ("numbers", mask) in known.made:
        return known.made["numbers", mask], []
    inside = known.shape(mask)
    if inside is None or len(inside) != 2 or inside[1] is None:
        return None, []
    rows, nodes = _nonzero(mask, node, known)
    shape, wide, flat, found = (known.fresh() for _ in range(4))
    known.made["numbers", mask] = found
    row = known.constant(np.arange(inside[1], dtype=np.int64)[None])
    return found, [
        *nodes,
        Node("Shape", (mask,), (shape,), {}, node.label),
        Node("Expand", (row, shape), (wide,), {}, node.label),
        Node("Reshape", (wide, _ints(known, -1)), (flat,), {}, node.label),
        Node("Gather", (flat, rows), (found,), {"axis": 0}, node.label),
    ]


def _nonzero(mask: str, node: Node, known: Known) -> tuple[str, list[Node]]:
    """Return the places of true entries of `mask`, its axes joined, and what makes them."""
    if ("places", mask) in known.made:
        return known.made["places", mask], []
    flat, found, places = (known.fresh() for _ in range(3))
    known.made["places", mask] = places
    return places, [
        Node("Reshape", (mask, _ints(known, -1)), (flat,), {}, node.label),
        Node("NonZero", (flat,), (found,), {}, node.label),
        *_squeezed(found, 0, known, places),
    ]


def _mask_of(index: str, known: Known) -> str | None:
    """Return the mask of two axes or more whose true entries' places are the rows of `index`."""
    turned = known.maker(index)
    if turned is None or turned.op != "Transpose" or turned.attributes.get("perm") not in (
        None, [1, 0],
    ):  # fmt: skip
        return None
    found = known.maker(turned.inputs[0])
    if found is None or found.op != "NonZero":
        return None
    shape = known.shape(found.inputs[0])
    return found.inputs[0] if shape is not None and len(shape) > 1 else None


def _squeezed(data: str, axis: int, known: Known, output: str) -> list[Node]:
    if known.opset < 13:
        return [Node("Squeeze", (data,), (output,), {"axes": [axis]})]
    return [Node("Squeeze", (data, _ints(known, axis)), (output,))]


def _ints(known: Known, *values: int) -> str:
    return known.constant(np.array(values, np.int64))


def _axes(node: Node, known: Known) -> list[int] | None:
    """Return the axes of an `Unsqueeze`, counted from the front."""
    axes = node.attributes.get("axes")
    if axes is None:
        value = known.value(node.inputs[1])
        axes = None if value is None else value.reshape(-1).tolist()
    shape = known.shape(node.output)
    return None if axes is None or shape is None else [a % len(shape) for a in axes]
