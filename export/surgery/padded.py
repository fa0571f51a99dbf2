"""Suppression as mmdeploy writes it: of several classes at once, its rows sorted and padded.

    index = NonMaxSuppression(boxes [1, N, 4], scores [1, K, N], most a class, IoU, score)
    dets  = the first so many, best first, of (boxes, scores)[index] and one row of zeros

What becomes of the indices is told by giving some, and looking which rows come out.
"""

from dataclasses import dataclass

import numpy as np

from .anchors import read_levels
from .declined import Declined
from .decoder import Decoding
from .detections import Detections
from .graph import Graph, Node
from .proposals import Proposals, check_scores, least_score
from .pyramid import Pool
from .suppression import Suppression
from .walk import LAYERS, LAYOUT, compute, frontier, strip

__all__ = ["is_padded", "read_padded_detections", "read_padded_proposals"]

RULE = "suppression"
_ROWS = 7


@dataclass(frozen=True)
class _Ranked:
    """One such suppression.

    Attributes:
        boxes: `[1, N, 4]`.
        scores: `[1, N, K]`.
        dets: `[1, D, 5]`.
        labels: `[1, D]`, or None if nobody asks.
        most: D at most.
    """

    node: Node
    boxes: str
    scores: str
    dets: str
    labels: str | None
    most: int


def is_padded(graph: Graph, found: Suppression, pool: Pool) -> bool:
    """Whether `found` has no labels, and `pool` takes boxes with an axis for pictures."""
    return found.labels is None and len(graph.shape(pool.boxes) or ()) == 3


def read_padded_proposals(graph: Graph, found: Suppression, pool: Pool) -> Proposals:
    """Return the proposal stage whose boxes `pool` pools, and that `found` suppresses."""
    ranked = _ranked(graph, found, _dets_of(graph, pool.boxes, found.node), None)
    read = read_levels(graph, ranked.boxes)
    return Proposals(
        read.levels, read.codec, read.corner, found.iou_threshold, 0.0,
        least_score(found.score_threshold, strict=True), ranked.most,
        check_scores(graph, ranked.scores, read), len(read.levels) == 1, pool.boxes,
        found.node.output, (*read.tops, found.node), ranked.dets,
    )  # fmt: skip


def read_padded_detections(
    graph: Graph, found: Suppression, proposals: Proposals, shown: list[str]
) -> Detections:
    """Return the detection stage that `found` suppresses and whose dets and labels are shown."""
    dets, labels = _outputs(graph, found, shown)
    ranked = _ranked(graph, found, dets, labels)
    softmax = _softmax(graph, ranked)
    logits = _only_layer(graph, softmax.inputs[0], softmax)
    classes = (graph.shape(logits) or (None,))[-1]
    if classes is None:
        raise Declined("detections", "the number of classes is not fixed", softmax)
    background = _background(graph, ranked, softmax, classes, proposals)
    codes, best = _codes(graph, ranked, proposals)
    place = None if not best else (ranked.scores, 0 if background else 1)
    decoding = Decoding(graph, ranked.boxes, codes, proposals, classes - 1, found.node, place)
    return Detections(
        logits=logits, codes=codes, classes=classes, background=background, own=decoding.own,
        first_own=decoding.first_own(), first_label=0, codec=decoding.codec(),
        corner=decoding.corner, score=found.score_threshold or 0.0, smallest=0.0,
        iou_threshold=found.iou_threshold, most=ranked.most, boxes=_boxes_of(graph, dets),
        scores=dets, labels=labels, nodes=(softmax, found.node), best=best, padded=dets,
    )  # fmt: skip


def _outputs(graph: Graph, found: Suppression, shown: list[str]) -> tuple[str, str]:
    """Return dets and labels among the outputs."""
    fives = [n for n in shown if (graph.shape(n) or ())[-1:] == (5,)]
    plain = [n for n in shown if len(graph.shape(n) or ()) == 2]
    if len(fives) != 1 or len(plain) != 1:
        raise Declined(RULE, "the outputs are not dets [1, D, 5] and labels [1, D]", found.node)
    return fives[0], plain[0]


def _dets_of(graph: Graph, boxes: str, node: Node) -> str:
    """Return what the boxes are the first four columns of."""
    maker = graph.maker(boxes)
    if maker is None or maker.op != "Slice":
        raise Declined(RULE, "the boxes that it keeps are not pooled", node)
    return maker.inputs[0]


def _boxes_of(graph: Graph, dets: str) -> str:
    """Return the boxes that are pooled for masks, or `dets` where none are."""
    found = [n for n in graph.users(dets) if n.op == "Slice"]
    return found[0].output if len(found) == 1 else dets


def _ranked(graph: Graph, found: Suppression, dets: str, labels: str | None) -> _Ranked:
    boxes, scores = (strip(graph, name, LAYOUT) for name in found.node.inputs[:2])
    shape = graph.shape(scores)
    count = shape[2] if shape is not None and len(shape) == 3 else None
    count = count or _classes_of(graph, found.node)
    _check_limits(found, _check_rows(graph, found, (boxes, scores), (dets, labels), count))
    most = _most(graph, found, (boxes, scores), dets, count)
    return _Ranked(found.node, _unsorted(graph, boxes), _unsorted(graph, scores), dets, labels,
                   _check_limits(found, most))  # fmt: skip


def _classes_of(graph: Graph, node: Node) -> int:
    """Return how many classes the layer behind the scores makes, the background left out."""
    places = frontier(graph, node.inputs[1], lambda n: n.op in LAYERS)
    sizes = {(graph.shape(place) or (None,))[-1] for place in places}
    known = min((size for size in sizes if size), default=None)
    if known is None:
        raise Declined(RULE, "its number of classes is not fixed", node)
    return known - 1


def _fed(
    graph: Graph, found: Suppression, roots: tuple[str, str], count: int, rows: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return feeds of `rows` boxes, whatever their number must be, and what was fed."""
    shape = graph.shape(roots[0]) or ()
    rows = shape[1] if len(shape) == 3 and shape[1] else rows
    generator = np.random.default_rng(0)
    boxes = generator.random((1, rows, 4), np.float32)
    scores = generator.permutation(rows * count).reshape(1, rows, count).astype(np.float32) + 1
    return {roots[0]: boxes, roots[1]: scores}, boxes, scores


def _check_rows(
    graph: Graph, found: Suppression, roots: tuple[str, str], shown: tuple[str, str | None],
    count: int,
) -> int | None:  # fmt: skip
    """Decline unless three indices give their rows, best first, and one of zeros."""
    feeds, boxes, scores = _fed(graph, found, roots, count, _ROWS)
    index = np.array([[0, 0, 2], [0, count - 1, 1], [0, count // 2, 0]], np.int64)
    feeds[found.node.output] = index
    own = scores[0, index[:, 2], index[:, 1]]
    order = np.argsort(-own)
    rows = np.concatenate([boxes[0, index[:, 2]], own[:, None]], 1)[order]
    expected = np.concatenate([rows, np.zeros((1, 5), np.float32)])
    dets = compute(graph, RULE, shown[0], feeds).reshape(-1, 5)
    if dets.shape != expected.shape or (dets != expected).any():
        raise Declined(RULE, "its rows do not become dets, best first, and one row of zeros",
                       found.node)  # fmt: skip
    if shown[1] is not None:
        labels = compute(graph, RULE, shown[1], feeds).reshape(-1)
        if labels.tolist() != [*index[order, 1].tolist(), 0]:
            raise Declined(RULE, "its classes do not become the labels", found.node)
    return None


def _most(
    graph: Graph, found: Suppression, roots: tuple[str, str], dets: str, count: int
) -> int | None:
    """Return how many are kept of very many."""
    many = 20_000 // count
    feeds, boxes, _ = _fed(graph, found, roots, count, many)
    rows = boxes.shape[1]
    numbers = np.arange(rows * count)
    index = np.stack([numbers * 0, numbers % count, numbers // count], 1)
    feeds[found.node.output] = index
    kept = compute(graph, RULE, dets, feeds).reshape(-1, 5)
    return None if len(kept) > len(index) else len(kept)


def _check_limits(found: Suppression, most: int | None) -> int:
    if most is not None and found.most is not None and found.most < most:
        raise Declined(RULE, f"it keeps {found.most} of a class at most, and {most} of all",
                       found.node)  # fmt: skip
    return most or 0


def _unsorted(graph: Graph, name: str) -> str:
    """Return what `name` was before all its rows were sorted by score, which changes nothing."""
    maker = graph.maker(name)
    if maker is None or maker.op != "Gather" or maker.attributes.get("axis", 0) != 1:
        return name
    top = graph.maker(strip(graph, maker.inputs[1], LAYOUT))
    if top is None or top.op != "TopK":
        return name
    data = top.inputs[0]
    sides = graph.shape(data)
    rows = (None if not sides else sides[int(top.attributes.get("axis", -1))]) or _ROWS
    feeds = {}
    for ordered in {data, strip(graph, data, LAYOUT)}:  # its length is taken of either
        shape = graph.shape(ordered) or (None,)
        feeds[ordered] = np.zeros([side or rows for side in shape], np.float32)
    most = graph.value(top.inputs[1])
    if most is None:
        most = compute(graph, RULE, top.inputs[1], feeds)
    if int(most.reshape(-1)[0]) != rows:
        raise Declined(RULE, "only the best candidates of all classes enter it", top)
    return maker.inputs[0]


def _softmax(graph: Graph, ranked: _Ranked) -> Node:
    places = frontier(graph, ranked.scores, lambda n: n.op in ("Softmax", "Sigmoid", *LAYERS))
    makers = [graph.maker(place) for place in places]
    if len(makers) != 1 or makers[0] is None or makers[0].op != "Softmax":
        raise Declined("detections", "its scores are not one softmax", ranked.node)
    if makers[0].attributes.get("axis", -1 if graph.opset >= 13 else 1) not in (-1, 2):
        raise Declined("detections", "it is not a softmax over the classes of each proposal",
                       makers[0])  # fmt: skip
    return makers[0]


def _only_layer(graph: Graph, name: str, node: Node) -> str:
    places = frontier(graph, name, lambda n: n.op in LAYERS)
    if len(places) != 1 or strip(graph, name, LAYOUT) != places[0]:
        raise Declined("detections", "its logits are not what one layer makes", node)
    return places[0]


def _background(
    graph: Graph, ranked: _Ranked, softmax: Node, classes: int, proposals: Proposals
) -> int:
    numbers = np.arange(_ROWS * classes, dtype=np.float32).reshape(1, _ROWS, classes)
    feeds = {softmax.output: numbers, **proposals.fed(np.zeros((_ROWS, 4), np.float32))}
    found = compute(graph, RULE, ranked.scores, feeds).reshape(-1)
    for background, kept in ((0, numbers[..., 1:]), (classes - 1, numbers[..., :-1])):
        if len(found) == kept.size and (found == kept.reshape(-1)).all():
            return background
    raise Declined("detections", "its scores are not those of all classes but the first or the "
                   "last", softmax)  # fmt: skip


def _codes(graph: Graph, ranked: _Ranked, proposals: Proposals) -> tuple[str, bool]:
    """Return the codes, and whether only those of the best class are decoded."""
    known = {proposals.boxes, proposals.padded, ranked.scores}
    origins = [graph.maker(name) for name in known if name is not None]
    places = frontier(graph, ranked.boxes, lambda n: any(n is o for o in origins) or n.op in LAYERS)
    codes = [place for place in places if place not in known]
    if len(codes) != 1 or proposals.boxes not in places:
        raise Declined("detections", "its boxes are not decoded from one tensor of codes",
                       ranked.node)  # fmt: skip
    return codes[0], ranked.scores in places
