"""Rule `pyramid`: RoiAlign nodes over several feature maps, each box on the map that fits it.

    level = clamp(floor(k0 + log2(sqrt(area) / s0) + eps)) - least
    for i: rows_i = NonZero(level == i);  out[rows_i] = RoiAlign(features_i, boxes[rows_i])

becomes one MultilevelRoIAlign. A single RoiAlign on all boxes is a pyramid of one map. The
constants are read where they stand; then the whole assignment is computed on boxes of all sizes and
compared with the formula.

Below opset 16 RoiAlign has no alignment, so mmdeploy moves the boxes by half a cell before it:
`Add(boxes, -0.5 / spatial_scale)`. That is aligned but for boxes narrower than a cell, which an
unaligned RoiAlign widens to one; `Pool.widened` says so.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .declined import Declined
from .graph import Graph, Node
from .moved_boxes import aligned_outside, half_pixel
from .walk import LAYOUT, compute, index_source, strip

__all__ = ["Pool", "find_pools"]

RULE = "pyramid"
_COLUMNS = [1, 2, 3, 4]  # of a RoI, after the picture's number


@dataclass(frozen=True)
class Pool:
    """A pyramid of RoiAlign nodes.

    Attributes:
        boxes: `[N, 4]`.
        features: the maps, finest first.
        output: `[N, C, h, w]`.
        attributes: those of MultilevelRoIAlign.
        nodes: the RoiAlign nodes.
        widened: whether sides below a cell of the box's map count as one cell, though it is
            aligned.
    """

    boxes: str
    features: tuple[str, ...]
    output: str
    attributes: dict[str, Any]
    nodes: tuple[Node, ...]
    widened: bool = False


@dataclass(frozen=True)
class _Share:
    node: Node
    boxes: str
    level: str | None
    index: int
    rows: Node | None
    lead: int  # rows of zeros before the boxes, with which mmdeploy lets no level be empty
    moved: bool  # whether the boxes were moved by half a cell, which aligns them


def find_pools(graph: Graph) -> list[Pool]:
    """Return the pyramids of `graph`, in topological order."""
    groups: dict[tuple[str, str | None], list[_Share]] = {}
    for node in graph.of("RoiAlign"):
        share = _share(graph, node)
        groups.setdefault((share.boxes, share.level), []).append(share)
    return [_pool(graph, sorted(shares, key=lambda s: s.index)) for shares in groups.values()]


def _share(graph: Graph, node: Node) -> _Share:
    """Say which boxes of which level `node` pools."""
    level, index, rows, lead = None, 0, None, 0
    name, moved = aligned_outside(graph, RULE, node)
    while (maker := graph.maker(name)) is not None:
        if maker.op in ("Identity", "Cast"):
            name = maker.inputs[0]
        elif maker.op == "Gather" and maker.attributes.get("axis", 0) in (1, -1):
            taken = graph.value(maker.inputs[1])
            if taken is None or taken.reshape(-1).tolist() != _COLUMNS:
                raise Declined(RULE, "other columns than 1 to 4 of the RoIs are pooled", maker)
            name = maker.inputs[0]
        elif maker.op == "Slice" and _takes_corners(graph, maker):
            name = maker.inputs[0]
        elif maker.op == "Concat" and len(maker.inputs) == 2 and _is_boxes(graph, maker.inputs[1]):
            name = maker.inputs[1]
        elif maker.op == "Concat" and level is not None and _zero_rows(graph, maker):
            lead += _zero_rows(graph, maker)
            name = maker.inputs[1]
        elif maker.op == "Reshape" and _keeps_columns(graph, maker):
            name = maker.inputs[0]
        elif maker.op == "Gather" and level is None:
            found, _ = index_source(graph, maker.inputs[1])
            if found is None or found.op != "NonZero":
                break
            rows, (level, index) = found, _tested_level(graph, found)
            name = maker.inputs[0]
        else:
            break
    return _Share(node, name, level, index, rows, lead, moved)


def _zero_rows(graph: Graph, node: Node) -> int:
    """Return how many rows of zeros a `Concat` puts before its second input, 0 if no such thing."""
    first = graph.value(node.inputs[0])
    if first is None or first.any() or len(node.inputs) != 2 or node.attributes["axis"] != 0:
        return 0
    return len(first) if first.ndim == 2 else 0


def _keeps_columns(graph: Graph, node: Node) -> bool:
    """Whether a `Reshape` joins all axes but the last one, which RoIs lie along."""
    before, after = graph.shape(node.inputs[0]), graph.shape(node.output)
    if not before or not after or len(after) != 2:
        return False
    return after[-1] in (4, 5) and before[-1] in (after[-1], None)


def _takes_corners(graph: Graph, node: Node) -> bool:
    found = compute_columns(graph, node)
    return found == _COLUMNS


def compute_columns(graph: Graph, node: Node) -> list[int] | None:
    """Return the columns that a `Slice` of five takes, or None if it is no such thing."""
    parts = [graph.value(name) for name in node.inputs[1:4]]
    if len(parts) < 3 or any(p is None or p.size != 1 for p in parts):
        return None
    start, end, axis = (int(p.reshape(-1)[0]) for p in parts if p is not None)
    return list(range(5))[start:end] if axis in (1, -1) else None


def _is_boxes(graph: Graph, name: str) -> bool:
    shape = graph.shape(name)
    return shape is not None and len(shape) in (2, 3) and shape[-1] == 4


def _tested_level(graph: Graph, rows: Node) -> tuple[str, int]:
    equal = graph.maker(strip(graph, rows.inputs[0]))
    if equal is not None and equal.op == "Equal":
        for level, number in (equal.inputs, equal.inputs[::-1]):
            value = graph.value(number)
            if value is not None and value.size == 1:
                return strip(graph, level, ("Identity", "Cast")), int(value.reshape(-1)[0])
    raise Declined(RULE, "its rows are not those of one level", equal or rows)


def _pool(graph: Graph, shares: list[_Share]) -> Pool:
    nodes = [share.node for share in shares]
    attributes = _common_attributes(graph, shares)
    if shares[0].level is None:
        if len(shares) > 1:
            raise Declined(RULE, "two RoiAlign nodes pool the same boxes without levels", nodes[1])
        attributes |= {
            "canonical_scale": 224.0, "canonical_level": 4, "level_epsilon": 1e-6, "min_level": 0,
        }  # fmt: skip
        return _made(graph, shares, nodes[0].output, attributes)
    if [share.index for share in shares] != list(range(len(shares))):
        raise Declined(RULE, f"its levels are {[s.index for s in shares]}", nodes[0])
    read, reached = _assignment(graph, shares)
    scales = attributes["spatial_scales"][:reached]
    attributes |= {**read, "spatial_scales": scales}
    return _made(graph, shares[:reached], _scattered(graph, shares), attributes)


def _made(graph: Graph, shares: list[_Share], output: str, attributes: dict[str, Any]) -> Pool:
    features = tuple(share.node.inputs[0] for share in shares)
    for share in shares:
        shape = graph.shape(share.node.inputs[0])
        if shape is None or len(shape) != 4 or None in shape:
            raise Declined(RULE, "the size of its feature map is not static", share.node)
    return Pool(
        shares[0].boxes, features, output, attributes, tuple(share.node for share in shares),
        shares[0].moved,
    )  # fmt: skip


def _common_attributes(graph: Graph, shares: list[_Share]) -> dict[str, Any]:
    def of(share: _Share) -> tuple[object, ...]:
        given = share.node.attributes
        return (
            given.get("output_height", 1), given.get("output_width", 1),
            given.get("sampling_ratio", 0), given.get("mode", "avg"),
            share.moved or half_pixel(graph, share.node) == "half_pixel", share.moved,
        )  # fmt: skip

    first = of(shares[0])
    for share in shares[1:]:
        if of(share) != first:
            raise Declined(RULE, "its attributes differ from the other levels'", share.node)
    height, width, ratio, mode, aligned, _ = first
    if mode != "avg":
        raise Declined(RULE, "it takes the maximum of weighted corners, as no operator of ours",
                       shares[0].node)  # fmt: skip
    return {
        "output_height": height, "output_width": width, "sampling_ratio": ratio,
        "aligned": int(bool(aligned)), "mode": "avg",
        "spatial_scales": tuple(
            float(share.node.attributes.get("spatial_scale", 1.0)) for share in shares
        ),
    }  # fmt: skip


def _scattered(graph: Graph, shares: list[_Share]) -> str:
    """Return the tensor in which all shares stand at their rows."""
    waiting = {id(share.node): share for share in shares}
    scatters = {}
    for share in shares:
        pooled = _reshaped(graph, share.node.output)
        found = [
            n for n in graph.readers(pooled)
            if n.op in ("ScatterElements", "ScatterND") and n.inputs[2] == pooled
        ]  # fmt: skip
        if len(found) != 1 or len(graph.users(pooled)) != 1:
            raise Declined(RULE, "its output is not scattered to the rows of its boxes", share.node)
        rows, _ = _rows_of(graph, found[0].inputs[1])
        if rows is not share.rows:
            raise Declined(RULE, "its output is scattered to other rows than its boxes'", found[0])
        scatters[found[0].output] = found[0]
        waiting.pop(id(share.node))
    last = [s for s in scatters.values() if not any(s.output == o.inputs[0] for o in
                                                     scatters.values())]  # fmt: skip
    if len(last) != 1:
        raise Declined(RULE, "its levels are scattered into different tensors", last[0])
    return _behind(graph, last[0], shares[0].lead)


def _behind(graph: Graph, scatter: Node, lead: int) -> str:
    """Return what `scatter` gives, without the rows of zeros that stood before the boxes."""
    if not lead:
        return scatter.output
    users = graph.users(scatter.output)
    if len(users) == 1 and users[0].op == "Slice":
        start = graph.value(users[0].inputs[1])
        if start is not None and start.reshape(-1).tolist() == [lead]:
            return users[0].output
    raise Declined(RULE, f"the first {lead} rows, of no box, are not cut off again", scatter)


def _reshaped(graph: Graph, name: str) -> str:
    """Return `name` after the `Reshape` to its own shape that index_put is exported with."""
    users = graph.users(name)
    if len(users) == 1 and users[0].op == "Reshape" and users[0].inputs[0] == name:
        return users[0].output
    return name


def _rows_of(graph: Graph, index: str) -> tuple[Node | None, int | None]:
    maker = graph.maker(index)
    while maker is not None and maker.op in (*LAYOUT, "Expand", "Tile"):
        index = maker.inputs[0]
        maker = graph.maker(index)
    return index_source(graph, index)


def _assignment(graph: Graph, shares: list[_Share]) -> tuple[dict[str, Any], int]:
    """Read s0, k0, eps and the clamp, and hold the whole against the formula.

    Returns:
        The attributes, and how many levels are ever reached: torchvision's MobileNet pyramids have
        two maps of one stride, of which the second one gets no box.
    """
    first = shares[0]
    assert first.level is not None
    floor = _back_to(graph, first.level, "Floor", first.node)
    adds, name = _constants_added(graph, floor.inputs[0])
    scale, inside = _canonical_scale(graph, name, floor)
    adds.append(inside)
    level = max(adds, default=0.0, key=abs)
    least, reached = _clamp(graph, first.level, floor)
    reached = min(reached, len(shares))
    read: dict[str, Any] = {
        "canonical_scale": scale, "canonical_level": round(level),
        "level_epsilon": float(np.float32(sum(adds) - round(level))), "min_level": least,
    }  # fmt: skip
    boxes = _boxes_of_all_sizes()
    found = compute(graph, RULE, first.level, _fed(graph, first.boxes, boxes)).reshape(-1)
    found = found[first.lead :]
    expected = _formula(boxes, read, reached)
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        width, height = boxes[wrong[0], 2:] - boxes[wrong[0], :2]
        raise Declined(
            RULE, f"a box of {width:.1f} x {height:.1f} pixels goes to level "
            f"{int(found[wrong[0]])}, and by the formula to {int(expected[wrong[0]])}",
            floor,
        )  # fmt: skip
    return read, reached


def _fed(graph: Graph, name: str, boxes: np.ndarray) -> dict[str, np.ndarray]:
    """Return feeds with which `name` is `boxes [n, 4]`.

    So are rows `[1, n, 5]` of boxes and scores that `name` is cut from, if it is: mmdeploy expands
    the picture's number to their length.
    """
    rank = len(graph.shape(name) or (None, 4))
    feeds = {name: boxes if rank == 2 else boxes[None]}
    maker = graph.maker(name)
    if maker is not None and maker.op == "Slice":
        whole = graph.shape(maker.inputs[0]) or ()
        if whole[-1:] == (5,) and len(whole) == rank:
            feeds[maker.inputs[0]] = np.pad(feeds[name], [(0, 0)] * (rank - 1) + [(0, 1)])
    return feeds


def _boxes_of_all_sizes() -> np.ndarray:
    """Return boxes of falling and rising shapes, none of them square or at the origin."""
    sides = np.geomspace(1.7, 3000.0, 400)
    stretch = np.where(np.arange(400) % 2, 1.37, 0.61)
    corners = np.full((400, 2), (3.0, 7.0))
    far = corners + np.stack([sides * stretch, sides / stretch], 1)
    return np.concatenate([corners, far], 1).astype(np.float32)


def _formula(boxes: np.ndarray, read: dict[str, Any], levels: int) -> np.ndarray:
    scale, least = read["canonical_scale"], read["min_level"]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    level = np.floor(
        read["canonical_level"] + np.log2(np.sqrt(area) / scale) + read["level_epsilon"]
    )
    return np.clip(level, least, least + levels - 1).astype(np.int64) - least


def _back_to(graph: Graph, name: str, op: str, asked: Node) -> Node:
    maker = graph.maker(name)
    while maker is not None and maker.op != op:
        arguments = [i for i in maker.inputs if i and graph.value(i) is None]
        if len(arguments) != 1:
            break
        maker = graph.maker(arguments[0])
    if maker is None or maker.op != op:
        raise Declined(RULE, "its level is not the floor of a logarithm of the box's size", asked)
    return maker


def _constants_added(graph: Graph, name: str) -> tuple[list[float], str]:
    adds: list[float] = []
    while (maker := graph.maker(name)) is not None and maker.op == "Add":
        for value, other in (maker.inputs, maker.inputs[::-1]):
            constant = graph.value(value)
            if constant is not None and constant.size == 1:
                adds.append(float(constant.reshape(())))
                name = other
                break
        else:
            break
    return adds, name


def _canonical_scale(graph: Graph, name: str, floor: Node) -> tuple[float, float]:
    """Return s0 of `log2(x / s0 + eps)`, and by how much `eps` lifts a level where `x = s0`.

    The division may be a product, and that of two logarithms.
    """
    log = _back_to(graph, name, "Log", floor)
    adds, inside = _constants_added(graph, strip(graph, log.inputs[0]))
    small = math.log2(1 + max(adds, default=0.0, key=abs))
    small = small if small > 1e-8 else 0.0  # below what float32 tells from one
    maker = graph.maker(strip(graph, inside))
    if maker is not None and maker.op in ("Div", "Mul"):
        for place, value in enumerate(maker.inputs):
            constant = graph.value(value)
            if constant is not None and constant.size == 1 and (place or maker.op == "Mul"):
                number = float(constant.reshape(()))
                return (number if maker.op == "Div" else _round(1 / number)), small
    raise Declined(RULE, "the box's size is not divided by a canonical one", log)


def _round(value: float) -> float:
    near = round(value)
    return float(near) if math.isclose(value, near, rel_tol=1e-6) else value


def _clamp(graph: Graph, level: str, floor: Node) -> tuple[int, int]:
    """Return the number of the first level, and how many there are."""

    def clamped(value: float) -> int:
        feeds = {floor.output: np.array([value], np.float32)}
        return int(compute(graph, RULE, level, feeds).reshape(-1)[-1])

    lowest, highest = clamped(-100.0), clamped(100.0)
    if lowest != 0 or highest >= 100:
        raise Declined(RULE, "its levels are not clamped to those that there are", floor)
    inside = next((v for v in range(-50, 50) if clamped(float(v)) > lowest), None)
    if inside is None:  # one level alone is ever reached, so its number does not matter
        return max(0, int(_upper_bound(graph, level, floor))), 1
    return inside - 1, highest - lowest + 1


def _upper_bound(graph: Graph, level: str, floor: Node) -> float:
    """Return the constant that the level is clamped to, or 0."""
    maker = graph.readers(floor.output)[0]
    values = [graph.value(name) for name in maker.inputs[1:] if name]
    return float(max((v.max() for v in values if v is not None), default=0.0))
