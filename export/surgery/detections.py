"""Rule `detections`: from logits and codes of proposals to the detections.

softmax, background left out → boxes decoded for each class, clipped
→ score above a threshold, sides of at least so much → suppression per class → the first so many
"""

from dataclasses import dataclass

import numpy as np

from .anchors import central_boxes
from .box_codec import Codec, read_codec
from .candidates import Filters, unfiltered
from .declined import Declined
from .graph import Graph, Node
from .proposals import Proposals
from .suppression import Kept, Suppression
from .walk import LAYERS, compute, frontier

__all__ = ["Detections", "read_detections"]

RULE = "detections"
_ROWS = 6


@dataclass(frozen=True)
class Detections:
    """A detection stage.

    Attributes:
        logits: `[N, classes]`.
        codes: `[N, 4 · own]`.
        classes: background included.
        background: which logit it is, the first one or the last one.
        own: boxes decoded for each proposal; 1 if all classes share one.
        first_own: which of them is the first foreground class's.
        first_label: what the graph calls the first foreground class.
        boxes, scores, labels: what it gives, `[D, 4]` and `[D]`; boxes in network pixels.
    """

    logits: str
    codes: str
    classes: int
    background: int
    own: int
    first_own: int
    first_label: int
    codec: Codec
    corner: tuple[float, float]
    score: float
    smallest: float
    iou_threshold: float
    most: int
    boxes: str
    scores: str
    labels: str
    nodes: tuple[Node, ...]

    def __str__(self) -> str:
        """Return the parameters in words."""
        place = "first" if self.background == 0 else "last"
        shared = ", one box for all classes" if self.own == 1 < self.classes - 1 else ""
        return (
            f"{self.classes} classes, the {place} one background{shared}, {self.codec}; scores "
            f"above {self.score:g}, NMS {self.iou_threshold:g} per class, {self.most} kept, sides "
            f"of at least {self.smallest:.3g}"
        )


def read_detections(
    graph: Graph, found: Suppression, kept: list[Kept], proposals: Proposals
) -> Detections:
    """Return the detection stage that `found` suppresses and that starts from `proposals`."""
    if found.labels is None:
        raise Declined(RULE, "classes suppress each other, and torchvision's do not", found.node)
    boxes, filters = unfiltered(graph, RULE, found.boxes)
    scores, _ = unfiltered(graph, RULE, found.scores)
    labels, _ = unfiltered(graph, RULE, found.labels)
    softmax = _softmax(graph, scores, found.node)
    classes = _classes(graph, softmax)
    background = _background(graph, scores, softmax, classes, proposals)
    first_label = _first_label(graph, labels, softmax, classes, proposals)
    codes = _codes(graph, boxes, proposals, softmax, found.node)
    decoding = _Decoding(graph, boxes, codes, proposals, classes - 1, found.node)
    score, smallest = _thresholds(filters, found.node)
    shown = _outputs(found, kept)
    return Detections(
        logits=softmax.inputs[0],
        codes=codes,
        classes=classes,
        background=background,
        own=decoding.own,
        first_own=decoding.first_own(),
        first_label=first_label,
        codec=decoding.codec(),
        corner=decoding.corner,
        score=score,
        smallest=smallest,
        iou_threshold=found.iou_threshold,
        most=shown[0].most or 0,
        boxes=shown[0].name,
        scores=shown[1].name,
        labels=shown[2].name,
        nodes=(softmax, *filters.nodes, found.node),
    )


def _softmax(graph: Graph, scores: str, node: Node) -> Node:
    places = frontier(graph, scores, lambda n: n.op in ("Softmax", "Sigmoid", *LAYERS))
    makers = {id(m): m for m in map(graph.maker, places) if m is not None and m.op == "Softmax"}
    if len(places) != 1 or len(makers) != 1:
        raise Declined(RULE, "its scores are not one softmax", node)
    return next(iter(makers.values()))


def _classes(graph: Graph, softmax: Node) -> int:
    shape = graph.shape(softmax.inputs[0])
    axis = softmax.attributes.get("axis", -1 if graph.opset >= 13 else 1)
    if shape is None or len(shape) != 2 or shape[1] is None or axis not in (1, -1):
        raise Declined(RULE, "it is not a softmax over the classes of each proposal", softmax)
    return shape[1]


def _background(
    graph: Graph, scores: str, softmax: Node, classes: int, proposals: Proposals
) -> int:
    rows = _count(graph, softmax.inputs[0])
    numbers = np.arange(rows * classes, dtype=np.float32).reshape(rows, classes)
    found = compute(graph, RULE, scores, _rows(softmax, numbers, proposals)).reshape(-1)
    for background, kept in ((0, numbers[:, 1:]), (classes - 1, numbers[:, :-1])):
        if len(found) == kept.size and (found == kept.reshape(-1)).all():
            return background
    raise Declined(RULE, "its scores are not those of all classes but the first or the last",
                   softmax)  # fmt: skip


def _first_label(
    graph: Graph, labels: str, softmax: Node, classes: int, proposals: Proposals
) -> int:
    rows = _count(graph, softmax.inputs[0])
    numbers = np.zeros((rows, classes), np.float32)
    found = compute(graph, RULE, labels, _rows(softmax, numbers, proposals)).reshape(-1)
    for first in (0, 1):
        expected = np.tile(np.arange(first, classes - 1 + first), rows)
        if len(found) == len(expected) and (found == expected).all():
            return first
    raise Declined(RULE, "its labels are not the classes from 0 or from 1 on", softmax)


def _count(graph: Graph, name: str) -> int:
    """Return how many proposals an exporter fixed `name` to, or a few where it did not."""
    shape = graph.shape(name)
    return shape[0] if shape is not None and shape[0] else _ROWS


def _rows(softmax: Node, numbers: np.ndarray, proposals: Proposals) -> dict[str, np.ndarray]:
    """Return feeds for `numbers [n, classes]` of probabilities, of `n` proposals."""
    empty = proposals.fed(np.zeros((len(numbers), 4), np.float32))
    return {softmax.output: numbers, softmax.inputs[0]: numbers, **empty}


def _codes(graph: Graph, boxes: str, proposals: Proposals, softmax: Node, node: Node) -> str:
    origin = graph.maker(proposals.boxes)
    places = frontier(graph, boxes, lambda n: n is origin or n is softmax or n.op in LAYERS)
    codes = [place for place in places if place not in (proposals.boxes, softmax.output)]
    if len(codes) != 1 or proposals.boxes not in places:
        raise Declined(RULE, "its boxes are not decoded from one tensor of codes", node)
    return codes[0]


class _Decoding:
    """What makes the boxes of `foreground` classes out of codes and proposals."""

    def __init__(
        self, graph: Graph, boxes: str, codes: str, proposals: Proposals, foreground: int,
        node: Node,
    ) -> None:  # fmt: skip
        self._graph, self._boxes, self._codes, self._node = graph, boxes, codes, node
        self._proposals, self._foreground = proposals, foreground
        shape = graph.shape(codes)
        self.own = 0 if shape is None or shape[-1] is None else shape[-1] // 4
        if shape is None or shape[-1] not in (4, 4 * foreground, 4 * foreground + 4):
            raise Declined(RULE, "there are not four codes for each class", graph.maker(codes))
        self.corner = self._corner()
        self._start = central_boxes(self.corner)

    def codec(self) -> Codec:
        return read_codec(RULE, self._node, lambda code: self._same(self._start, code), self._start)

    def first_own(self) -> int:
        """Return where the codes of the first foreground class stand among those of all."""
        first = self.own - self._foreground if self.own > 1 or self._foreground == 1 else 0
        for wanted in {0, self._foreground - 1}:
            place = 0 if self.own == 1 else wanted + first
            code = np.zeros((len(self._start), 4 * self.own), np.float32)
            code[:, 4 * place : 4 * place + 4] = 0.5
            changed = np.abs(self._of(self._start, code) - self._start[:, None]).max((0, 2))
            others = np.delete(changed, wanted) if self.own > 1 else np.zeros(0)
            if changed[wanted] < 1e-3 or others.max(initial=0) > 1e-3:
                raise Declined(RULE, f"class {wanted + 1} is not moved by its own codes",
                               self._graph.maker(self._codes))  # fmt: skip
        return first

    def _of(self, start: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the boxes `[n, foreground, 4]` of proposals `start [n, 4]`."""
        shape = self._graph.shape(self._codes) or ()
        rows = shape[0] if shape and shape[0] else len(start)
        feeds = {self._codes: np.resize(codes, (rows, codes.shape[1])).astype(np.float32),
                 **self._proposals.fed(np.resize(start, (rows, 4)))}  # fmt: skip
        found = compute(self._graph, RULE, self._boxes, feeds)
        if found.size == rows * 4 and self.own == 1:
            found = np.repeat(found.reshape(-1, 1, 4), self._foreground, 1)
        if found.size != rows * self._foreground * 4:
            raise Declined(RULE, "not one box is decoded for each class but the background",
                           self._node)  # fmt: skip
        return found.reshape(rows, self._foreground, 4)[: len(start)]

    def _same(self, start: np.ndarray, code: np.ndarray) -> np.ndarray:
        """Return the boxes of `start` with the same codes for each class."""
        found = self._of(start, np.tile(code, (1, self.own)))
        if not (found == found[:, :1]).all():
            raise Declined(RULE, "classes are decoded differently", self._node)
        return found[:, 0]

    def _corner(self) -> tuple[float, float]:
        far = np.array([[-1e6, -1e6, 1e6, 1e6]], np.float32)
        found = self._same(far, np.zeros((1, 4), np.float32))[0]
        if (found[:2] != 0).any() or (found[2:] >= 1e6).any():
            raise Declined(RULE, "its boxes are not clipped to the picture", self._node)
        return float(found[2]), float(found[3])


def _outputs(found: Suppression, kept: list[Kept]) -> tuple[Kept, Kept, Kept]:
    picked = []
    for what, name in (
        ("boxes", found.boxes), ("scores", found.scores), ("labels", found.labels),
    ):  # fmt: skip
        same = [k for k in kept if k.data == name]
        if not same:
            raise Declined(RULE, f"the {what} that it keeps are not gathered", found.node)
        if same[0].most is None:
            raise Declined(RULE, "the number of detections has no limit", same[0].node)
        picked.append(same[0])
    return picked[0], picked[1], picked[2]


def _thresholds(filters: Filters, node: Node) -> tuple[float, float]:
    if filters.score is not None and not filters.strict:
        raise Declined(RULE, "a score equal to the threshold is kept, and torchvision drops it",
                       node)  # fmt: skip
    return (-1.0 if filters.score is None else filters.score), filters.smallest or 0.0
