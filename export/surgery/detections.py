"""Rule `detections`: from logits and codes of proposals to the detections.

softmax, background left out → boxes decoded for each class, clipped
→ score above a threshold, sides of at least so much → suppression per class → the first so many
"""

from dataclasses import dataclass

import numpy as np

from .box_codec import Codec
from .candidates import Filters, unfiltered
from .declined import Declined
from .decoder import Decoding
from .graph import Graph, Node
from .proposals import Proposals
from .suppression import Kept, Suppression, check_plain
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
        best: whether all classes of a proposal have the box of its best class.
        padded: None, or the tensor `[1, D, 5]` of boxes and scores, a row of zeros last if fewer
            than `most` are kept; `boxes` and `labels` then have a first axis of 1, too.
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
    best: bool = False
    padded: str | None = None

    def __str__(self) -> str:
        """Return the parameters in words."""
        place = "first" if self.background == 0 else "last"
        shared = ", one box for all classes" if self.own == 1 < self.classes - 1 else ""
        shared = ", the best class's box for all" if self.best else shared
        return (
            f"{self.classes} classes, the {place} one background{shared}, {self.codec}; scores "
            f"above {self.score:g}, NMS {self.iou_threshold:g} per class, {self.most} kept, sides "
            f"of at least {self.smallest:.3g}"
        )

    def fed(self, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return feeds for which what follows sees detections of the foreign `labels [n]`."""
        boxes = np.zeros((len(labels), 4), np.float32)
        if self.padded is None:
            return {self.boxes: boxes, self.labels: labels}
        dets = np.zeros((1, len(labels), 5), np.float32)
        return {self.boxes: boxes[None], self.labels: labels[None], self.padded: dets}


def read_detections(
    graph: Graph, found: Suppression, kept: list[Kept], proposals: Proposals
) -> Detections:
    """Return the detection stage that `found` suppresses and that starts from `proposals`."""
    check_plain(found)
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
    decoding = Decoding(graph, boxes, codes, proposals, classes - 1, found.node)
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
        raise Declined(RULE, "its class scores are not one softmax over all classes, as sigmoids "
                       "of each are not (detectron2's USE_SIGMOID_CE)", node)  # fmt: skip
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
