"""Rule `proposals`: a region proposal network's output, from its head's maps to its boxes.

per level: TopK of the objectness → anchors decoded by the deltas, clipped to the picture
→ sides of at least so much → suppression per level → the first so many
"""

from dataclasses import dataclass

import numpy as np

from .box_codec import Codec, read_codec
from .candidates import unfiltered
from .declined import Declined, needs
from .graph import Graph, Node
from .suppression import Kept, Suppression
from .walk import LAYERS, LAYOUT, compute, frontier, strip

__all__ = ["Level", "Proposals", "read_corner", "read_proposals"]

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
    """

    objectness: str
    deltas: str
    anchors: np.ndarray
    most: int


@dataclass(frozen=True)
class Proposals:
    """A proposal stage; `boxes` is its output `[N, 4]`."""

    levels: tuple[Level, ...]
    codec: Codec
    corner: tuple[float, float]
    iou_threshold: float
    smallest: float
    score: float
    most: int
    boxes: str
    nodes: tuple[Node, ...]

    def __str__(self) -> str:
        """Return the parameters in words."""
        anchors = sum(len(level.anchors) for level in self.levels)
        tops = ", ".join(str(level.most) for level in self.levels)
        return (
            f"{len(self.levels)} levels, {anchors} anchors, top {tops}; {self.codec}; NMS "
            f"{self.iou_threshold:g} per level, {self.most} kept, sides of at least "
            f"{self.smallest:g}"
        )


def read_proposals(graph: Graph, found: Suppression, kept: Kept) -> Proposals:
    """Return the proposal stage that `found` suppresses and whose boxes `kept` is."""
    if kept.most is None:
        raise Declined(RULE, "the number of proposals has no limit", kept.node)
    base, filters = unfiltered(graph, RULE, found.boxes)
    gather, corner = _gathered(graph, base)
    decoded, index = gather.inputs[0], gather.inputs[1]
    tops = _tops(graph, index, gather)
    objectness = [_objectness(graph, top) for top in tops]
    deltas = frontier(graph, decoded, lambda n: n.op in LAYERS)
    deltas = _in_order_of(graph, objectness, deltas, gather)
    anchors, codec = _anchors(graph, decoded, deltas, objectness, gather)
    _check_scores(graph, found, index)
    counts = [int(np.prod(_static(graph, name)[1:])) for name in objectness]
    _check_offsets(graph, index, tops, counts)
    _check_labels(graph, found, counts)
    parts = np.split(anchors, np.cumsum(counts)[:-1])
    levels = tuple(
        Level(score, delta, part, _most(graph, top))
        for score, delta, part, top in zip(objectness, deltas, parts, tops, strict=True)
    )
    return Proposals(
        levels, codec, corner, found.iou_threshold, filters.smallest or 0.0,
        -1.0 if filters.score is None else filters.score, kept.most, kept.name,
        (*tops, found.node),
    )  # fmt: skip


def _gathered(graph: Graph, base: str) -> tuple[Node, tuple[float, float]]:
    """Return the `Gather` that takes the best anchors, and the corner that boxes are clipped to."""

    def is_gather(node: Node) -> bool:
        return (
            node.op in ("Gather", "GatherElements", "GatherND")
            and graph.value(node.inputs[1]) is None
        )

    places = frontier(graph, base, lambda n: is_gather(n) or n.op in LAYERS)
    if len(places) != 1:
        maker = graph.maker(base)
        raise Declined(RULE, "its candidates are not the best anchors of a TopK", maker)
    gather = needs(graph, RULE, places[0])
    if gather.op != "Gather":
        raise Declined(RULE, "its candidates are not gathered from decoded anchors", gather)
    return gather, read_corner(graph, RULE, base, places[0], gather)


def read_corner(
    graph: Graph, rule: str, clipped: str, source: str, node: Node
) -> tuple[float, float]:
    """Return the `(x, y)` to which boxes `source` are clipped when they become `clipped`."""
    shape = [4 if side is None else side for side in graph.shape(source) or (4, 4)]
    if shape[-1] != 4:
        raise Declined(rule, "its boxes do not have four coordinates", node)
    low, high = np.full(shape, -_FAR, np.float32), np.full(shape, _FAR, np.float32)
    least = compute(graph, rule, clipped, {source: low}).reshape(-1, 4)
    most = compute(graph, rule, clipped, {source: high}).reshape(-1, 4)
    if (least != 0).any() or (most != most[0]).any() or (most[0, :2] != most[0, 2:]).any():
        raise Declined(rule, "its boxes are not clipped to the picture", node)
    return float(most[0, 0]), float(most[0, 1])


def _tops(graph: Graph, index: str, gather: Node) -> list[Node]:
    places = frontier(graph, index, lambda n: n.op == "TopK" or n.op in LAYERS)
    tops = [graph.maker(place) for place in places]
    found = [top for top in tops if top is not None and top.op == "TopK"]
    if len(found) != len(tops) or not found:
        raise Declined(RULE, "its candidates are not chosen by TopK", gather)
    feeds = {t.outputs[1]: np.full(_static(graph, t.outputs[1]), i, np.int64)
             for i, t in enumerate(found)}  # fmt: skip
    offsets = {t.outputs[1]: np.zeros(_static(graph, t.outputs[1]), np.int64) for t in found}
    order = compute(graph, RULE, index, feeds) - compute(graph, RULE, index, offsets)
    return [found[i] for i in dict.fromkeys(order.reshape(-1).tolist())]


def _static(graph: Graph, name: str) -> tuple[int, ...]:
    shape = graph.shape(name)
    if shape is None or any(side is None for side in shape):
        raise Declined(RULE, f"the shape of {name!r} is not static", graph.maker(name))
    return tuple(int(side) for side in shape if side is not None)


def _most(graph: Graph, top: Node) -> int:
    value = graph.value(top.inputs[1])
    if value is None:
        raise Declined(RULE, "the number of candidates is computed, and must be a constant", top)
    return int(value.reshape(-1)[0])


def _objectness(graph: Graph, top: Node) -> str:
    """Return the map whose scores `top` orders, which must stand in the order `[H, W, A]`."""
    if not top.attributes.get("largest", 1) or not top.attributes.get("sorted", 1):
        raise Declined(RULE, "it does not take the largest scores in falling order", top)
    maps = frontier(graph, top.inputs[0], lambda n: n.op in LAYERS)
    start, numbers = 0, {}
    for name in maps:
        shape = _static(graph, name)
        size = int(np.prod(shape))
        numbers[name] = np.arange(start, start + size, dtype=np.float32).reshape(shape)
        start += size
    moved = compute(graph, RULE, top.inputs[0], numbers).reshape(-1)
    for name, value in numbers.items():
        if len(moved) == value.size and moved.min() == value.min():
            if len(value.shape) != 4 or (value.transpose(0, 2, 3, 1).reshape(-1) != moved).any():
                raise Declined(RULE, "objectness is not in the order height, width, anchor", top)
            return name
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
    return ordered


def _anchors(
    graph: Graph, decoded: str, deltas: list[str], objectness: list[str], gather: Node
) -> tuple[np.ndarray, Codec]:
    shapes = [_static(graph, name) for name in deltas]
    heights = [_static(graph, name) for name in objectness]
    for (_, wide, *rest), (_, few, *other) in zip(shapes, heights, strict=True):
        if wide != 4 * few or rest != other:
            raise Declined(RULE, "there are not four deltas for each anchor", gather)
    counts = [int(np.prod(shape[1:])) for shape in heights]

    def decoder(codes: np.ndarray) -> np.ndarray:
        feeds = {}
        for name, (_, wide, h, w), part in zip(
            deltas, shapes, np.split(codes, np.cumsum(counts)[:-1]), strict=True
        ):
            maps = part.reshape(h, w, wide // 4, 4).transpose(2, 3, 0, 1)
            feeds[name] = maps.reshape(1, wide, h, w).astype(np.float32)
        return compute(graph, RULE, decoded, feeds).reshape(-1, 4)

    anchors = decoder(np.zeros((sum(counts), 4), np.float32)).astype(np.float32)
    if len(anchors) != sum(counts):
        raise Declined(RULE, f"{sum(counts)} scores stand against {len(anchors)} anchors", gather)
    return anchors, read_codec(RULE, gather, decoder, anchors)


def _check_scores(graph: Graph, found: Suppression, index: str) -> None:
    base, _ = unfiltered(graph, RULE, found.scores)
    sigmoid = graph.maker(strip(graph, base, (*LAYOUT, "Split")))
    if sigmoid is None or sigmoid.op != "Sigmoid":
        raise Declined(RULE, "its scores are not the sigmoid of the objectness", sigmoid)


def _check_offsets(graph: Graph, index: str, tops: list[Node], counts: list[int]) -> None:
    feeds = {t.outputs[1]: np.zeros(_static(graph, t.outputs[1]), np.int64) for t in tops}
    found = compute(graph, RULE, index, feeds).reshape(-1)
    starts = np.cumsum([0, *counts[:-1]])
    expected = np.repeat(starts, [_most(graph, top) for top in tops])
    if len(found) != len(expected) or (found != expected).any():
        raise Declined(RULE, "its candidates are not counted level by level", tops[0])


def _check_labels(graph: Graph, found: Suppression, counts: list[int]) -> None:
    """Decline unless boxes of different levels are kept apart, each level having its own number."""
    if found.labels is None:
        if len(counts) > 1:
            raise Declined(RULE, "boxes of different levels suppress each other", found.node)
        return
    base, _ = unfiltered(graph, RULE, found.labels)
    gather = graph.maker(strip(graph, base, (*LAYOUT, "Split")))
    value = None if gather is None or gather.op != "Gather" else graph.value(gather.inputs[0])
    expected = np.repeat(np.arange(len(counts)), counts)
    if value is None or value.size != len(expected) or (value.reshape(-1) != expected).any():
        raise Declined(RULE, "its labels are not the levels of the anchors", found.node)
