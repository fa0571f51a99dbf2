"""Rule `detections`: from logits and codes of proposals to the detections.

softmax, background left out → boxes decoded for each class, clipped
→ score above a threshold, sides of at least so much → suppression per class → the first so many
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .box_codec import Codec, read_codec
from .candidates import Filters, unfiltered
from .declined import Declined
from .graph import Graph, Node
from .suppression import Kept, Suppression
from .walk import LAYERS, compute, frontier

__all__ = ["Detections", "read_detections"]

RULE = "detections"
_ROWS = 6
_Decoded = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Detections:
    """A detection stage.

    Attributes:
        logits: `[N, classes]`, background first.
        codes: `[N, 4 · classes]`.
        classes: background included.
        boxes, scores, labels: what it gives, `[D, 4]` and `[D]`; boxes in network pixels.
    """

    logits: str
    codes: str
    classes: int
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
        return (
            f"{self.classes} classes, {self.codec}; scores above {self.score:g}, NMS "
            f"{self.iou_threshold:g} per class, {self.most} kept, sides of at least "
            f"{self.smallest:g}"
        )


def read_detections(
    graph: Graph, found: Suppression, kept: list[Kept], proposals: str
) -> Detections:
    """Return the detection stage that `found` suppresses and that starts from `proposals`."""
    if found.labels is None:
        raise Declined(RULE, "classes suppress each other, and torchvision's do not", found.node)
    boxes, filters = unfiltered(graph, RULE, found.boxes)
    scores, _ = unfiltered(graph, RULE, found.scores)
    labels, _ = unfiltered(graph, RULE, found.labels)
    softmax = _softmax(graph, scores, found.node)
    classes = _classes(graph, softmax)
    _check_scores(graph, scores, softmax, classes, proposals)
    _check_labels(graph, labels, softmax, classes, proposals)
    codes = _codes(graph, boxes, proposals, softmax, found.node)
    codec, corner = _decoding(graph, boxes, codes, proposals, classes, found.node)
    score, smallest = _thresholds(filters, found.node)
    shown = _outputs(found, kept)
    return Detections(
        logits=softmax.inputs[0],
        codes=codes,
        classes=classes,
        codec=codec,
        corner=corner,
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


def _check_scores(graph: Graph, scores: str, softmax: Node, classes: int, proposals: str) -> None:
    numbers = np.arange(_ROWS * classes, dtype=np.float32).reshape(_ROWS, classes)
    found = compute(graph, RULE, scores, _rows(softmax, numbers, proposals)).reshape(-1)
    expected = numbers[:, 1:].reshape(-1)
    if len(found) != len(expected) or (found != expected).any():
        raise Declined(RULE, "its scores are not those of all classes but the first", softmax)


def _check_labels(graph: Graph, labels: str, softmax: Node, classes: int, proposals: str) -> None:
    numbers = np.zeros((_ROWS, classes), np.float32)
    found = compute(graph, RULE, labels, _rows(softmax, numbers, proposals)).reshape(-1)
    expected = np.tile(np.arange(1, classes), _ROWS)
    if len(found) != len(expected) or (found != expected).any():
        raise Declined(RULE, "its labels are not the classes from 1 on", softmax)


def _rows(softmax: Node, numbers: np.ndarray, proposals: str) -> dict[str, np.ndarray]:
    """Return feeds for `numbers [n, classes]` of probabilities, of `n` proposals."""
    empty = np.zeros((len(numbers), 4), np.float32)
    return {softmax.output: numbers, softmax.inputs[0]: numbers, proposals: empty}


def _codes(graph: Graph, boxes: str, proposals: str, softmax: Node, node: Node) -> str:
    origin = graph.maker(proposals)
    places = frontier(graph, boxes, lambda n: n is origin or n is softmax or n.op in LAYERS)
    codes = [place for place in places if place not in (proposals, softmax.output)]
    if len(codes) != 1 or proposals not in places:
        raise Declined(RULE, "its boxes are not decoded from one tensor of codes", node)
    return codes[0]


def _decoding(
    graph: Graph, boxes: str, codes: str, proposals: str, classes: int, node: Node
) -> tuple[Codec, tuple[float, float]]:
    shape = graph.shape(codes)
    if shape is None or shape[-1] != 4 * classes:
        raise Declined(RULE, "there are not four codes for each class", graph.maker(codes))

    def decoded(start: np.ndarray, code: np.ndarray) -> np.ndarray:
        feeds = {codes: np.tile(code, (1, classes)).astype(np.float32), proposals: start}
        found = compute(graph, RULE, boxes, feeds)
        if found.size != len(start) * (classes - 1) * 4:
            raise Declined(RULE, "not one box is decoded for each class but the first", node)
        found = found.reshape(len(start), classes - 1, 4)
        if not (found == found[:, :1]).all():
            raise Declined(RULE, "classes are decoded differently", node)
        return found[:, 0]

    corner = _corner(decoded, node)
    start = _starts(corner)
    codec = read_codec(RULE, node, lambda code: decoded(start, code), start)
    _check_own_codes(graph, boxes, codes, proposals, classes, start)
    return codec, corner


def _corner(decoded: _Decoded, node: Node) -> tuple[float, float]:
    far = np.array([[-1e6, -1e6, 1e6, 1e6]], np.float32)
    found = decoded(far, np.zeros((1, 4), np.float32))[0]
    if (found[:2] != 0).any() or (found[2:] >= 1e6).any():
        raise Declined(RULE, "its boxes are not clipped to the picture", node)
    return float(found[2]), float(found[3])


def _starts(corner: tuple[float, float]) -> np.ndarray:
    """Return boxes so small and central that known codes do not move them out of the picture."""
    unit = min(corner) / 256
    centre = np.array([corner[0], corner[1]]) / 2
    sides = unit * np.array([[1.0, 0.5], [0.5, 1.0], [0.25, 0.25], [0.75, 0.5]])
    return np.concatenate([centre - sides / 2, centre + sides / 2], 1).astype(np.float32)


def _check_own_codes(
    graph: Graph, boxes: str, codes: str, proposals: str, classes: int, start: np.ndarray
) -> None:
    """Decline unless class c of a proposal is moved by codes 4c to 4c + 3."""
    for wanted in {1, classes - 1}:
        code = np.zeros((len(start), 4 * classes), np.float32)
        code[:, 4 * wanted : 4 * wanted + 4] = 0.5
        moved = compute(graph, RULE, boxes, {codes: code, proposals: start})
        changed = np.abs(moved.reshape(len(start), classes - 1, 4) - start[:, None]).max((0, 2))
        if changed[wanted - 1] < 1e-3 or np.delete(changed, wanted - 1).max(initial=0) > 1e-3:
            raise Declined(RULE, f"class {wanted} is not moved by its own codes",
                           graph.maker(codes))  # fmt: skip


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
