"""Rule `DETR head`: queries with class logits, boxes and mask logits, and nothing behind them.

Three outputs of one number of queries: boxes `[1, Q, 4]`, class logits `[1, Q, C]`, masks
`[1, Q, h, w]`, each a product of a query's vector with a map. What they are is told by computing
them from the last layers' numbers: boxes are parts of the picture, and centre and size, as a size
is above zero and orders nothing, while corners are ordered.

    family        boxes                             masks
    RF-DETR       codes of a reference, exp         logits
    D-FINE-seg    means of distributions, softmax   probabilities
    EC-seg        the same                          logits
"""

from dataclasses import dataclass

import numpy as np

from .declined import Declined, Notes
from .graph import Graph, Node
from .walk import LAYERS, LAYOUT, compute, frontier, nodes_between, strip

__all__ = ["DetrHead", "find_detr"]

RULE = "DETR head"
_COCO_IDS = 91  # classes of a model whose labels are COCO's category ids
_LARGEST_PART = 4.0  # of the picture; boxes in pixels are far beyond
_FEW_CONVOLUTIONS = 6  # a stem that makes patches; a convolutional backbone has dozens


@dataclass(frozen=True)
class DetrHead:
    """A DETR's three outputs, and what is in them.

    Attributes:
        boxes: `[1, Q, 4]`, centre and size, in parts of the picture.
        scores: `[1, Q, C]`: logits, or probabilities if `squashed`.
        masks: `[1, Q, h, w]`: logits, or probabilities if `masks_squashed`.
        size: `(height, width)` of the picture.
        queries, classes: Q and C.
        squashed, masks_squashed: see above.
        family: "rf_detr", "d_fine" or "ec".
        imagenet: whether the backbone cuts the picture into patches, as those do that take
            pictures normalised by ImageNet's mean and deviation.
        nodes: landmarks.
    """

    boxes: str
    scores: str
    masks: str
    size: tuple[int, int]
    queries: int
    classes: int
    squashed: bool
    masks_squashed: bool
    family: str
    imagenet: bool
    nodes: tuple[Node, ...]

    @property
    def first_label(self) -> int:
        """The label of class 0: COCO's ids are labels already, and 0 is none of them."""
        return 0 if self.classes == _COCO_IDS else 1


_NAMES = {"rf_detr": "RF-DETR Seg", "d_fine": "D-FINE-seg", "ec": "EC-seg"}


def find_detr(
    graph: Graph,
    size: tuple[int, int],
    notes: Notes,
    outputs: tuple[str, str, str] | None = None,
) -> DetrHead:
    """Return the head of a DETR.

    Args:
        graph: folded, of one picture.
        size: of that picture, `(height, width)`.
        notes: gets what was recognised.
        outputs: boxes, scores and masks; None looks for them among the graph's outputs.

    Raises:
        Declined: it is none, and why.
    """
    boxes, scores, masks = outputs or _outputs(graph)
    shapes = [graph.shape(name) for name in (boxes, scores, masks)]
    queries = {None if shape is None or len(shape) < 2 else shape[1] for shape in shapes}
    ranks = [len(shape or ()) for shape in shapes]
    if len(queries) != 1 or None in queries or ranks != [3, 3, 4] or None in (shapes[1] or ()):
        raise Declined(RULE, f"boxes, scores and masks are of the shapes {shapes}, and not of one "
                       "number of queries")  # fmt: skip
    squashed = _squashed(graph, scores, "scores")
    distributed = _check_boxes(graph, boxes)
    masks_squashed, mixing = _mixed(graph, masks)
    family = "rf_detr" if not distributed else "d_fine" if masks_squashed else "ec"
    imagenet = _patches(graph)
    nodes = tuple(node for node in (graph.maker(boxes), mixing) if node is not None)
    count, classes = int(shapes[1][1] or 0), int(shapes[1][2] or 0)  # type: ignore[index]
    head = DetrHead(
        boxes, scores, masks, size, count, classes, squashed, masks_squashed, family, imagenet,
        nodes,
    )  # fmt: skip
    kind = "probabilities" if masks_squashed else "logits"
    numbering = "; labels are COCO's ids" if not head.first_label else ""
    form = "means of distributions" if distributed else "codes of references"
    notes.add(
        RULE,
        f"{_NAMES[family]}: {count} queries, {classes} classes{numbering}; boxes as centre and "
        f"size in parts of the picture, by {form}; masks {kind}; no NMS follows",
        nodes,
    )
    return head


def _outputs(graph: Graph) -> tuple[str, str, str]:
    ranks = {name: graph.shape(name) or () for name in graph.outputs}
    masks = [name for name, shape in ranks.items() if len(shape) == 4]
    rows = [name for name, shape in ranks.items() if len(shape) == 3]
    boxes = [name for name in rows if ranks[name][2] == 4]
    if len(masks) != 1 or len(rows) != 2 or len(boxes) not in (1, 2):
        raise Declined(RULE, "it needs three outputs, of boxes [1, Q, 4], scores [1, Q, C] and "
                       "masks [1, Q, h, w]")  # fmt: skip
    if len(boxes) == 2:  # four classes: scores come straight from a layer, boxes do not
        boxes = [name for name in boxes if not _straight(graph, name)]
    if len(boxes) != 1:
        raise Declined(RULE, "which output is boxes and which is scores is not to be told: name "
                       "them with --outputs detr-seg")  # fmt: skip
    (scores,) = (name for name in rows if name != boxes[0])
    return boxes[0], scores, masks[0]


def _straight(graph: Graph, name: str) -> bool:
    between = nodes_between(graph, [name], frontier(graph, name, lambda n: n.op in LAYERS))
    return all(node.op in (*LAYOUT, "Add", "Gather", "Slice") for node in between)


def _squashed(graph: Graph, scores: str, what: str) -> bool:
    """Whether `scores` are probabilities of a sigmoid already, and not logits."""
    maker = graph.maker(strip(graph, scores, (*LAYOUT, "Gather", "Slice")))
    if maker is not None and maker.op in ("Softmax", "LogSoftmax"):
        raise Declined(RULE, f"its {what} are a softmax over all classes, of which one is no "
                       "object: a sigmoid for each class is read", maker)  # fmt: skip
    return maker is not None and maker.op == "Sigmoid"


def _check_boxes(graph: Graph, boxes: str) -> bool:
    """Decline unless boxes are centre and size in parts; return whether distributions give them."""
    end = graph.maker(boxes)
    sources = frontier(graph, boxes, lambda node: node.op in LAYERS)
    between = nodes_between(graph, [boxes], sources)
    if not sources or not any(node.op in ("Sigmoid", "Exp") for node in between):
        raise Declined(RULE, "its boxes are not squashed into the picture by a sigmoid or an exp",
                       end)  # fmt: skip
    generator = np.random.default_rng(0)
    feeds = {}
    for name in sources:
        shape = graph.shape(name)
        if shape is None or None in shape:
            raise Declined(RULE, "its boxes depend on more than layers of fixed shapes", end)
        sides = [int(side or 0) for side in shape]
        feeds[name] = generator.normal(0, 0.5, sides).astype(np.float32)
    found = compute(graph, RULE, boxes, feeds).reshape(-1, 4)
    if not np.isfinite(found).all() or np.abs(np.median(found, 0)).max() > _LARGEST_PART:
        raise Declined(RULE, "its boxes are in pixels, and parts of the picture are read", end)
    if (found[:, 2:] > found[:, :2]).all():
        raise Declined(RULE, "its boxes are corners, and centre and size are read", end)
    if (found[:, 2:] < 0).any():
        raise Declined(RULE, "its boxes have sizes below zero, so they are not centre and size",
                       end)  # fmt: skip
    return any(node.op == "Softmax" for node in between) or _means(graph, sources)


def _means(graph: Graph, sources: list[str]) -> bool:
    """Whether one of the last layers reads a softmax: it is the mean of a distribution."""
    for name in sources:
        maker = graph.maker(name)
        data = None if maker is None else graph.maker(strip(graph, maker.inputs[0], LAYOUT))
        if data is not None and data.op == "Softmax":
            return True
    return False


def _mixed(graph: Graph, masks: str) -> tuple[bool, Node]:
    """Return whether masks are probabilities, and the product that makes them."""
    through = (*LAYOUT, "Sigmoid", "Add", "Gather", "Slice", "Mul")
    name, squashed = masks, False
    maker = graph.maker(name)
    while maker is not None and maker.op in through:
        squashed |= maker.op == "Sigmoid"
        name = next((n for n in maker.inputs if n and graph.value(n) is None), maker.inputs[0])
        maker = graph.maker(name)
    if maker is None or maker.op not in ("MatMul", "Einsum") or any(
        graph.value(n) is not None for n in maker.inputs
    ):  # fmt: skip
        raise Declined(RULE, "its masks are not products of the queries with a map", maker)
    return squashed, maker


def _patches(graph: Graph) -> bool:
    """Whether a convolution or several cut the picture into patches before a transformer."""
    norms = [graph.order[id(node)] for node in graph.of("LayerNormalization")]
    convolutions = [graph.order[id(node)] for node in graph.of("Conv")]
    return bool(norms) and sum(place < norms[0] for place in convolutions) <= _FEW_CONVOLUTIONS
