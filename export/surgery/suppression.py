"""Rule `suppression`: a NonMaxSuppression with the offsets that keep labels apart.

    index = NonMaxSuppression(boxes + label · (max(boxes) + 1), scores)[:, 2]
    kept  = Gather(boxes, index[:most])

is greedy suppression per label. Without the offset it is one suppression over all labels.
"""

from dataclasses import dataclass

import numpy as np

from .declined import Declined
from .graph import Graph, Node
from .walk import index_source, strip

__all__ = ["Kept", "Suppression", "check_plain", "find_suppressions", "kept_by"]

RULE = "suppression"
_ALL = 1 << 31  # a number that no count reaches
_MANY = 1 << 16  # more than any detector keeps
_SHAPING = ("Reshape", "Squeeze", "Unsqueeze", "Identity", "Cast", "Flatten", "Expand")


@dataclass(frozen=True)
class Suppression:
    """One NonMaxSuppression.

    Attributes:
        node: it.
        boxes: `[N, 4]`, without offsets.
        scores: `[N]`.
        labels: `[N]`, or None if labels are ignored.
        iou_threshold: overlap above which a box goes.
        score_threshold: scores above it are candidates; None if all are.
        most: how many are kept of a class at most; None if all are.
    """

    node: Node
    boxes: str
    scores: str
    labels: str | None
    iou_threshold: float
    score_threshold: float | None
    most: int | None


@dataclass(frozen=True)
class Kept:
    """Rows of `data` that a suppression kept, the first `most` of them, as `name`."""

    name: str
    data: str
    most: int | None
    node: Node


def find_suppressions(graph: Graph) -> list[Suppression]:
    """Return every NonMaxSuppression of `graph`, in order."""
    return [_read(graph, node) for node in graph.of("NonMaxSuppression")]


def kept_by(graph: Graph, found: Suppression) -> list[Kept]:
    """Return all that is gathered by the indices of `found`."""
    kept = []
    for node in graph.of("Gather"):
        if node.attributes.get("axis", 0) != 0 or graph.value(node.inputs[1]) is not None:
            continue
        source, most = index_source(graph, node.inputs[1])
        if source is found.node and node.inputs[0] not in found.node.outputs:
            kept.append(Kept(node.output, strip(graph, node.inputs[0], _SHAPING), most, node))
    return kept


def _read(graph: Graph, node: Node) -> Suppression:
    if node.attributes.get("center_point_box", 0):
        raise Declined(RULE, "its boxes are given as centre and size, and not as corners", node)
    boxes = strip(graph, node.inputs[0], _SHAPING)
    scores = strip(graph, node.inputs[1], _SHAPING)
    threshold = graph.value(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else None
    if len(node.inputs) > 3 and node.inputs[3] and threshold is None:
        raise Declined(RULE, "its IoU threshold is computed, and must be a constant", node)
    iou = 0.0 if threshold is None else float(np.asarray(threshold, np.float32).reshape(()))
    plain, labels = _without_offset(graph, boxes)
    score, most = _given(graph, node, 4), _given(graph, node, 2)
    return Suppression(
        node, plain, scores, labels, iou, score,
        None if most is None or most >= _ALL else int(most),
    )  # fmt: skip


def _given(graph: Graph, node: Node, place: int) -> float | None:
    """Return the constant at input `place`, or None where there is none."""
    if len(node.inputs) <= place or not node.inputs[place]:
        return None
    value = graph.value(node.inputs[place])
    if value is None:
        raise Declined(RULE, "one of its limits is computed, and must be a constant", node)
    return float(value.reshape(-1)[0])


def check_plain(found: Suppression) -> None:
    """Decline if `found` leaves out more than overlaps, which filters around it do."""
    if found.score_threshold is not None and found.score_threshold > 0:
        raise Declined(RULE, "it has a score threshold of its own, beside the filters", found.node)
    if found.most is not None and found.most < _MANY:
        raise Declined(RULE, f"it keeps {found.most} boxes of a class at most, before the rest "
                       "are sorted", found.node)  # fmt: skip


def _without_offset(graph: Graph, boxes: str) -> tuple[str, str | None]:
    add = graph.maker(boxes)
    if add is None or add.op != "Add":
        return boxes, None
    for plain, offset in (add.inputs, add.inputs[::-1]):
        factors = graph.maker(strip(graph, offset, _SHAPING))
        if factors is None or factors.op != "Mul":
            continue
        for labels, span in (factors.inputs, factors.inputs[::-1]):
            if _is_span(graph, span, plain):
                return strip(graph, plain, _SHAPING), strip(graph, labels, _SHAPING)
    raise Declined(RULE, "what is added to its boxes is no offset of labels", add)


def _is_span(graph: Graph, name: str, boxes: str) -> bool:
    """Whether `name` is the greatest coordinate of `boxes` plus one."""
    add = graph.maker(strip(graph, name, _SHAPING))
    if add is None or add.op != "Add":
        return False
    for highest, one in (add.inputs, add.inputs[::-1]):
        maker = graph.maker(strip(graph, highest, _SHAPING))
        value = graph.value(one)
        if maker is None or maker.op != "ReduceMax" or value is None or float(value.max()) < 1:
            continue
        return strip(graph, maker.inputs[0], _SHAPING) == strip(graph, boxes, _SHAPING)
    return False
