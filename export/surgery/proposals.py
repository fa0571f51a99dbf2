"""Rule `proposals`: a region proposal network's output, from its head's maps to its boxes.

per level: TopK of the objectness → anchors decoded by the deltas, clipped to the picture
→ sides of at least so much → suppression per level, or over all → the first so many
"""

from dataclasses import dataclass

import numpy as np

from .anchors import Level, Levels, read_levels
from .box_codec import Codec
from .candidates import unfiltered
from .declined import Declined
from .graph import Graph, Node
from .suppression import Kept, Suppression, check_plain
from .walk import LAYOUT, compute, strip

__all__ = ["Level", "Proposals", "check_scores", "least_score", "read_proposals"]

RULE = "proposals"


@dataclass(frozen=True)
class Proposals:
    """A proposal stage.

    Attributes:
        probabilities: whether suppression orders by the sigmoid of the objectness, or by itself.
        per_level: whether boxes of different levels are kept apart.
        boxes: its output `[N, 4]`.
        suppressed: what the suppression gives, a row for each box that it keeps.
        padded: None, or the tensor `[1, N, 5]` of boxes and scores, a row of zeros last if fewer
            than `most` are kept, which counts as a proposal; `boxes` is then `[1, N, 4]`.
    """

    levels: tuple[Level, ...]
    codec: Codec
    corner: tuple[float, float]
    iou_threshold: float
    smallest: float
    score: float
    most: int
    probabilities: bool
    per_level: bool
    boxes: str
    suppressed: str
    nodes: tuple[Node, ...]
    padded: str | None = None

    def __str__(self) -> str:
        """Return the parameters in words."""
        anchors = sum(len(level.anchors) for level in self.levels)
        tops = ", ".join(str(level.most) for level in self.levels)
        over = "per level" if self.per_level else "over all levels"
        return (
            f"{len(self.levels)} levels, {anchors} anchors, top {tops}; {self.codec}; NMS "
            f"{self.iou_threshold:g} {over}, {self.most} kept, sides of at least "
            f"{self.smallest:.3g}"
        )

    def fed(self, boxes: np.ndarray) -> dict[str, np.ndarray]:
        """Return feeds with which what follows sees `boxes [n, 4]` as the proposals."""
        boxes = boxes.astype(np.float32)
        if self.padded is not None:
            dets = np.pad(boxes, ((0, 0), (0, 1)))
            return {self.boxes: boxes[None], self.padded: dets[None]}
        return {self.boxes: boxes, self.suppressed: np.zeros((len(boxes), 3), np.int64)}


def read_proposals(graph: Graph, found: Suppression, kept: Kept) -> Proposals:
    """Return the proposal stage that `found` suppresses and whose boxes `kept` is."""
    check_plain(found)
    if kept.most is None:
        raise Declined(RULE, "the number of proposals has no limit", kept.node)
    base, filters = unfiltered(graph, RULE, found.boxes)
    read = read_levels(graph, base)
    scores, _ = unfiltered(graph, RULE, found.scores)
    probabilities = check_scores(graph, scores, read)
    per_level = _check_labels(graph, found, read)
    return Proposals(
        read.levels, read.codec, read.corner, found.iou_threshold, filters.smallest or 0.0,
        least_score(filters.score, filters.strict), kept.most, probabilities, per_level,
        kept.name, found.node.output, (*read.tops, found.node),
    )  # fmt: skip


def least_score(score: float | None, strict: bool) -> float:
    """Return the least score that passes a threshold, or minus infinity if there is none."""
    if score is None:
        return -np.inf
    return float(np.nextafter(np.float32(score), np.float32(np.inf))) if strict else score


def check_scores(graph: Graph, scores: str, read: Levels) -> bool:
    """Return whether `scores` are the sigmoid of the best objectness, or that itself."""
    generator = np.random.default_rng(0)
    feeds, best = {}, []
    for level in read.levels:
        shape = graph.shape(level.objectness) or ()
        value = generator.normal(0, 2, [int(s or 0) for s in shape]).astype(np.float32)
        feeds[level.objectness] = value
        best.append(np.sort(value, None)[::-1][: level.most])
    computed = compute(graph, RULE, scores, feeds).reshape(-1)
    expected = np.concatenate(best)
    for probabilities, wanted in ((True, 1 / (1 + np.exp(-expected))), (False, expected)):
        if computed.shape == wanted.shape and np.allclose(computed, wanted, atol=1e-6):
            return probabilities
    raise Declined(
        RULE, "its scores are neither the objectness of its candidates nor the sigmoid of the "
        "objectness", graph.maker(scores),
    )  # fmt: skip


def _check_labels(graph: Graph, found: Suppression, read: Levels) -> bool:
    """Return whether boxes of different levels are kept apart, each level having its own number."""
    if found.labels is None:
        return len(read.levels) == 1
    counts = [len(level.anchors) for level in read.levels]
    base, _ = unfiltered(graph, RULE, found.labels)
    value, expected = graph.value(base), np.repeat(np.arange(len(counts)), [
        level.most for level in read.levels
    ])  # fmt: skip
    if value is None:
        gather = graph.maker(strip(graph, base, (*LAYOUT, "Split")))
        value = None if gather is None or gather.op != "Gather" else graph.value(gather.inputs[0])
        expected = np.repeat(np.arange(len(counts)), counts)
    if value is None or value.size != len(expected) or (value.reshape(-1) != expected).any():
        raise Declined(RULE, "its labels are not the levels of the anchors", found.node)
    return True
