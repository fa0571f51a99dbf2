"""Levels of a region proposal network: which maps, which anchors, and how many of them are decoded.

    decoded, then chosen:  boxes = Gather(decode(deltas, anchors), best), for all levels or for each
    chosen, then decoded:  boxes = decode(Gather(deltas, best), Gather(anchors, best))

Either way the best are those of a `TopK` of the objectness, whose order `[H, W, A]` is told by
sending an enumeration through.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .box_codec import Codec, read_codec
from .declined import Declined, needs
from .graph import Graph, Node
from .walk import LAYERS, compute, frontier

__all__ = ["Level", "Levels", "central_boxes", "read_corner", "read_levels", "static_shape"]

RULE = "proposals"
_FAR = 1e6


@dataclass(frozen=True)
class Level:
    """One level of the head.

    Attributes:
        objectness: `[1, A, H, W]`, before the sigmoid.
        deltas: `[1, 4 A, H, W]`.
        anchors: `[H W A, 4]`, xyxy.
        most: how many of the best are decoded.
        squashed: whether they are the best after a sigmoid.
    """

    objectness: str
    deltas: str
    anchors: np.ndarray
    most: int
    squashed: bool


@dataclass(frozen=True)
class Levels:
    """All levels, in the order of their candidates."""

    levels: tuple[Level, ...]
    codec: Codec
    corner: tuple[float, float]
    tops: tuple[Node, ...]


@dataclass(frozen=True)
class _Group:
    """Levels whose best anchors one `Gather` takes."""

    gather: Node
    tops: list[Node]
    objectness: list[str]
    squashed: list[bool]


def read_levels(graph: Graph, base: str) -> Levels:
    """Return the levels whose best anchors, decoded and clipped, are `base`."""
    gathers = _gathers(graph, base)
    moving = [g for g in gathers if graph.value(g.inputs[0]) is None]
    still = [g for g in gathers if graph.value(g.inputs[0]) is not None]
    groups = _in_order(graph, base, [_group(graph, g) for g in moving], still)
    if still:
        return _chosen_first(graph, base, groups, still)
    corner = read_corner(graph, RULE, base, [g.output for g in moving], moving[0])
    levels, codecs = [], []
    for group in groups:
        found, codec = _decoded_first(graph, group)
        levels += found
        codecs.append(codec)
    if any(codec != codecs[0] for codec in codecs):
        raise Declined(RULE, "levels are decoded differently", groups[-1].gather)
    return Levels(tuple(levels), codecs[0], corner, tuple(t for g in groups for t in g.tops))


def _gathers(graph: Graph, base: str) -> list[Node]:
    """Return the nodes that take the best anchors."""

    def is_gather(node: Node) -> bool:
        kinds = ("Gather", "GatherElements", "GatherND")
        return node.op in kinds and graph.value(node.inputs[1]) is None

    places = frontier(graph, base, lambda n: is_gather(n) or n.op in LAYERS)
    if not places:
        raise Declined(RULE, "its candidates are not the best anchors of a TopK", graph.maker(base))
    gathers = [needs(graph, RULE, place) for place in places]
    for gather in gathers:
        if gather.op in LAYERS:
            raise Declined(RULE, "its candidates are not the best anchors of a TopK",
                           graph.maker(base))  # fmt: skip
        if gather.op != "Gather" or gather.attributes.get("axis", 0) != 0:
            raise Declined(RULE, "its candidates are not gathered from decoded anchors", gather)
    return gathers


def _group(graph: Graph, gather: Node) -> _Group:
    tops = _tops(graph, gather.inputs[1], gather)
    found = [_objectness(graph, top) for top in tops]
    return _Group(gather, tops, [name for name, _ in found], [squashed for _, squashed in found])


def _in_order(graph: Graph, base: str, groups: list[_Group], still: Sequence[Node]) -> list[_Group]:
    """Return `groups` in the order in which their boxes stand in `base`."""
    if len(groups) == 1:
        return groups
    box = np.array([0.0, 0.0, 1.0, 1.0], np.float32)
    feeds = {n.output: np.resize(box, static_shape(graph, n.output)) for n in still}
    for group in groups:
        feeds[group.gather.output] = np.zeros(static_shape(graph, group.gather.output), np.float32)
    starts = {}
    for number, group in enumerate(groups):
        shape = static_shape(graph, group.gather.output)
        ones = {**feeds, group.gather.output: np.ones(shape, np.float32)}
        rows = compute(graph, RULE, base, ones).reshape(-1, 4)
        moved = np.flatnonzero((rows != compute(graph, RULE, base, feeds).reshape(-1, 4)).any(1))
        if len(moved) != np.prod(shape) // 4 or moved[-1] - moved[0] + 1 != len(moved):
            raise Declined(RULE, "its candidates do not stand together", group.gather)
        starts[number] = int(moved[0])
    return [groups[number] for number in sorted(starts, key=lambda n: starts[n])]


def read_corner(
    graph: Graph, rule: str, clipped: str, sources: Sequence[str], node: Node
) -> tuple[float, float]:
    """Return the `(x, y)` to which boxes `sources` are clipped when they become `clipped`."""
    shapes = {}
    for source in sources:
        shapes[source] = [4 if side is None else side for side in graph.shape(source) or (4, 4)]
        if shapes[source][-1] != 4:
            raise Declined(rule, "its boxes do not have four coordinates", node)

    def at(value: float) -> np.ndarray:
        feeds = {name: np.full(shape, value, np.float32) for name, shape in shapes.items()}
        return compute(graph, rule, clipped, feeds).reshape(-1, 4)

    least, most = at(-_FAR), at(_FAR)
    if (least != 0).any() or (most != most[0]).any() or (most[0, :2] != most[0, 2:]).any():
        raise Declined(rule, "its boxes are not clipped to the picture", node)
    return float(most[0, 0]), float(most[0, 1])


def _tops(graph: Graph, index: str, gather: Node) -> list[Node]:
    places = frontier(graph, index, lambda n: n.op == "TopK" or n.op in LAYERS)
    tops = [graph.maker(place) for place in places]
    found = [top for top in tops if top is not None and top.op == "TopK"]
    if len(found) != len(tops) or not found:
        raise Declined(RULE, "its candidates are not chosen by TopK", gather)
    feeds = {t.outputs[1]: np.full(static_shape(graph, t.outputs[1]), i, np.int64)
             for i, t in enumerate(found)}  # fmt: skip
    offsets = {t.outputs[1]: np.zeros(static_shape(graph, t.outputs[1]), np.int64) for t in found}
    order = compute(graph, RULE, index, feeds) - compute(graph, RULE, index, offsets)
    return [found[i] for i in dict.fromkeys(order.reshape(-1).tolist())]


def static_shape(graph: Graph, name: str) -> tuple[int, ...]:
    """Return the shape of `name`, or decline."""
    shape = graph.shape(name)
    if shape is None or any(side is None for side in shape):
        raise Declined(RULE, f"the shape of {name!r} is not static", graph.maker(name))
    return tuple(int(side) for side in shape if side is not None)


def _most(graph: Graph, top: Node) -> int:
    value = graph.value(top.inputs[1])
    if value is None:
        raise Declined(RULE, "the number of candidates is computed, and must be a constant", top)
    return int(value.reshape(-1)[0])


def _objectness(graph: Graph, top: Node) -> tuple[str, bool]:
    """Return the map whose scores `top` orders, and whether by their sigmoid.

    They must stand in the order `[H, W, A]`.
    """
    if not top.attributes.get("largest", 1) or not top.attributes.get("sorted", 1):
        raise Declined(RULE, "it does not take the largest scores in falling order", top)
    maps = frontier(graph, top.inputs[0], lambda n: n.op in LAYERS)
    start, numbers = 0, {}
    for name in maps:
        shape = static_shape(graph, name)
        size = int(np.prod(shape))
        numbers[name] = np.arange(start, start + size, dtype=np.float32).reshape(shape)
        start += size
    feeds = dict(numbers)
    squashing = frontier(graph, top.inputs[0], lambda n: n.op == "Sigmoid" or n.op in LAYERS)
    makers = [m for m in map(graph.maker, squashing) if m is not None and m.op == "Sigmoid"]
    for sigmoid in makers:
        feeds[sigmoid.output] = compute(graph, RULE, sigmoid.inputs[0], numbers)
    moved = compute(graph, RULE, top.inputs[0], feeds).reshape(-1)
    for name, value in numbers.items():
        if len(moved) == value.size and moved.min() == value.min():
            if len(value.shape) != 4 or (value.transpose(0, 2, 3, 1).reshape(-1) != moved).any():
                raise Declined(RULE, "objectness is not in the order height, width, anchor", top)
            return name, bool(makers)
    raise Declined(RULE, "its scores are not those of one level", top)


def _in_order_of(graph: Graph, objectness: list[str], deltas: list[str], gather: Node) -> list[str]:
    """Return `deltas`, each beside the objectness of its own level: they have one hidden map."""
    if len(objectness) != len(deltas):
        raise Declined(
            RULE, f"it has {len(objectness)} maps of objectness and {len(deltas)} of deltas", gather
        )
    ordered = []
    for score in objectness:
        hidden = needs(graph, RULE, score).inputs[0]
        beside = [d for d in deltas if needs(graph, RULE, d).inputs[0] == hidden]
        if len(beside) != 1:
            raise Declined(RULE, "objectness and deltas do not come from one hidden map",
                           graph.maker(score))  # fmt: skip
        ordered.append(beside[0])
    for score, delta in zip(objectness, ordered, strict=True):
        (_, few, *other), (_, wide, *rest) = static_shape(graph, score), static_shape(graph, delta)
        if wide != 4 * few or rest != other:
            raise Declined(RULE, "there are not four deltas for each anchor", gather)
    return ordered


def _decoded_first(graph: Graph, group: _Group) -> tuple[list[Level], Codec]:
    gather = group.gather
    decoded, index = gather.inputs
    found = frontier(graph, decoded, lambda n: n.op in LAYERS)
    deltas = _in_order_of(graph, group.objectness, found, gather)
    anchors, codec = _anchors(graph, decoded, deltas, gather)
    counts = [_count(graph, name) for name in group.objectness]
    _check_offsets(graph, index, group.tops, counts)
    parts = np.split(anchors, np.cumsum(counts)[:-1])
    return [
        Level(score, delta, part, _most(graph, top), squashed)
        for score, delta, part, top, squashed in zip(
            group.objectness, deltas, parts, group.tops, group.squashed, strict=True
        )
    ], codec


def _count(graph: Graph, objectness: str) -> int:
    return int(np.prod(static_shape(graph, objectness)[1:]))


def _maps_of(graph: Graph, deltas: list[str], codes: np.ndarray) -> dict[str, np.ndarray]:
    """Return `codes [H W A, 4]` of all levels as the maps that the head would make."""
    feeds, start = {}, 0
    for name in deltas:
        _, wide, h, w = static_shape(graph, name)
        part = codes[start : start + wide // 4 * h * w]
        start += len(part)
        maps = part.reshape(h, w, wide // 4, 4).transpose(2, 3, 0, 1)
        feeds[name] = maps.reshape(1, wide, h, w).astype(np.float32)
    return feeds


def _anchors(
    graph: Graph, decoded: str, deltas: list[str], gather: Node
) -> tuple[np.ndarray, Codec]:
    count = sum(int(np.prod(static_shape(graph, name))) // 4 for name in deltas)

    def decoder(codes: np.ndarray) -> np.ndarray:
        return compute(graph, RULE, decoded, _maps_of(graph, deltas, codes)).reshape(-1, 4)

    anchors = decoder(np.zeros((count, 4), np.float32)).astype(np.float32)
    if len(anchors) != count:
        raise Declined(RULE, f"{count} scores stand against {len(anchors)} anchors", gather)
    return anchors, read_codec(RULE, gather, decoder, anchors)


def _check_offsets(graph: Graph, index: str, tops: list[Node], counts: list[int]) -> None:
    feeds = {t.outputs[1]: np.zeros(static_shape(graph, t.outputs[1]), np.int64) for t in tops}
    found = compute(graph, RULE, index, feeds).reshape(-1)
    starts = np.cumsum([0, *counts[:-1]])
    expected = np.repeat(starts, [_most(graph, top) for top in tops])
    if len(found) != len(expected) or (found != expected).any():
        raise Declined(RULE, "its candidates are not counted level by level", tops[0])


def _chosen_first(graph: Graph, base: str, groups: list[_Group], still: Sequence[Node]) -> Levels:
    """Read levels whose deltas and anchors are gathered each, and decoded together."""
    levels, tops = [], []
    for group in groups:
        gather = group.gather
        if len(group.tops) != 1:
            raise Declined(RULE, "deltas of several levels are gathered as one", gather)
        deltas = _in_order_of(
            graph, group.objectness,
            frontier(graph, gather.inputs[0], lambda n: n.op in LAYERS), gather,
        )  # fmt: skip
        beside = [s for s in still if _tops(graph, s.inputs[1], s) == group.tops]
        if len(beside) != 1:
            raise Declined(RULE, "the anchors of its deltas are not gathered beside them", gather)
        count = _count(graph, group.objectness[0])
        _check_row_order(graph, gather, deltas[0], count)
        for node in (gather, beside[0]):
            _check_offsets(graph, node.inputs[1], group.tops, [count])
        anchors = np.asarray(graph.value(beside[0].inputs[0]), np.float32).reshape(-1, 4)
        if len(anchors) != count:
            raise Declined(RULE, f"{count} scores stand against {len(anchors)} anchors", gather)
        most = _most(graph, group.tops[0])
        levels.append(Level(group.objectness[0], deltas[0], anchors, most, group.squashed[0]))
        tops.append(group.tops[0])
    codec, corner = _decoding(graph, base, groups, still)
    return Levels(tuple(levels), codec, corner, tuple(tops))


def _check_row_order(graph: Graph, gather: Node, delta: str, count: int) -> None:
    codes = np.arange(4 * count, dtype=np.float32).reshape(-1, 4)
    found = compute(graph, RULE, gather.inputs[0], _maps_of(graph, [delta], codes)).reshape(-1, 4)
    if found.shape != codes.shape or (found != codes).any():
        raise Declined(RULE, "deltas are not in the order height, width, anchor", gather)


def _decoding(
    graph: Graph, base: str, groups: list[_Group], still: Sequence[Node]
) -> tuple[Codec, tuple[float, float]]:
    """Return codec and corner of what decodes chosen deltas and anchors."""
    node = groups[0].gather
    moving = [g.gather.output for g in groups]

    def decoded(boxes: np.ndarray, code: np.ndarray) -> np.ndarray:
        """Decode the same few boxes and codes on every level."""
        feeds = {}
        for names, rows in (([s.output for s in still], boxes), (moving, code)):
            for name in names:
                shape = static_shape(graph, name)
                many = np.resize(rows, (int(np.prod(shape)) // 4, 4))
                feeds[name] = many.reshape(shape).astype(np.float32)
        found = compute(graph, RULE, base, feeds).reshape(-1, 4)
        return found[: len(boxes)]

    far = np.array([[-_FAR, -_FAR, _FAR, _FAR]], np.float32)
    found = decoded(far, np.zeros((1, 4), np.float32))[0]
    if (found[:2] != 0).any() or (found[2:] >= _FAR).any():
        raise Declined(RULE, "its boxes are not clipped to the picture", node)
    corner = (float(found[2]), float(found[3]))
    start = central_boxes(corner)
    smallest = min(int(np.prod(static_shape(graph, name))) // 4 for name in moving)
    if smallest < len(start):
        raise Declined(RULE, "a level has too few candidates to tell how they are decoded", node)
    return read_codec(RULE, node, lambda code: decoded(start, code), start), corner


def central_boxes(corner: tuple[float, float]) -> np.ndarray:
    """Return boxes so small and central that known codes do not move them out of the picture."""
    unit = min(corner) / 256
    centre = np.array([corner[0], corner[1]]) / 2
    sides = unit * np.array([[1.0, 0.5], [0.5, 1.0], [0.25, 0.25], [0.75, 0.5]])
    return np.concatenate([centre - sides / 2, centre + sides / 2], 1).astype(np.float32)
