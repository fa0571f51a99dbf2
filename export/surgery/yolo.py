"""Rule `YOLO head`: predictions of many places, and prototypes that their masks are mixed from.

One output has a row for each place (or a column), another one prototypes `[1, nm, h, w]`. What a
row says is proven by computing it: random numbers go into the last convolutions, and what comes out
is held against

    anchor-free    box      centre ± distances, in strides; distances are the mean of a softmax over
                            R bins (YOLOv8, 9, 11, 12), or as they come (YOLO26)
                   scores   sigmoid
    anchors        box      centre (2 s - 1/2 + cell) · stride, size (2 s)² · anchor (YOLOv5)
                   scores   sigmoid of the place times that of the class
    both           coefficients as they come

with s the sigmoid of a code, and each kind of row in its place. A file that ends with its own
choice (`[1, D, 6 + nm]`: box, score, class, coefficients) is followed back to the predictions, and
that choice is held against the best D places by their best class, and of those the best D classes.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .declined import Declined, Notes
from .graph import Graph, Node
from .walk import LAYERS, LAYOUT, compute, frontier, strip
from .yolo_formulas import (
    RULE,
    Level,
    by_distances,
    centred,
    check_anchored,
    distances_of,
    sigmoid,
)

__all__ = ["YoloHead", "find_yolo"]

_FEW = 8  # places
_NEAR = 2e-3  # of a box, in strides; a softmax over 16 bins in float32 is good to 1e-5
_MOST_BINS = 64


@dataclass(frozen=True)
class YoloHead:
    """A YOLO's two outputs, and what is in them.

    Attributes:
        predictions: `[1, rows, A]`, or `[1, A, rows]` if `places_first`; with `chosen`,
            `[1, chosen, 6 + nm]`.
        prototypes: `[1, nm, h, w]`.
        size: `(height, width)` of the picture.
        classes: how many, without a background.
        coefficients: nm.
        places: A.
        strides: of each level, pixels.
        kind: "bins", "distances" or "anchors".
        places_first: see `predictions`.
        corners: boxes are x1, y1, x2, y2, and not centre and size.
        chosen: how many the file itself chooses; 0 if it leaves that to others.
        nodes: landmarks.
    """

    predictions: str
    prototypes: str
    size: tuple[int, int]
    classes: int
    coefficients: int
    places: int
    strides: tuple[int, ...]
    kind: str
    places_first: bool
    corners: bool
    chosen: int
    nodes: tuple[Node, ...]

    @property
    def objectness(self) -> bool:
        """Whether a place has a score of its own beside those of its classes."""
        return self.kind == "anchors"

    @property
    def family(self) -> str:
        """The models that have such a head."""
        return {
            "bins": "YOLOv8, 9, 11 or 12-seg",
            "distances": "YOLO26-seg",
            "anchors": "YOLOv5 or v7-seg",
        }[self.kind]


def find_yolo(
    graph: Graph, size: tuple[int, int], notes: Notes, outputs: tuple[str, str] | None = None
) -> YoloHead:
    """Return the head of a YOLO.

    Args:
        graph: folded, of one picture.
        size: of that picture, `(height, width)`.
        notes: gets what was recognised.
        outputs: predictions and prototypes; None looks for them among the graph's outputs.

    Raises:
        Declined: it is none, and why.
    """
    predictions, prototypes = outputs or _outputs(graph)
    shape, masks = _static(graph, predictions, 3), _static(graph, prototypes, 4)
    end = graph.maker(predictions)
    if end is None:
        raise Declined(RULE, f"the tensor {predictions!r} is not computed by any node")
    coefficients = masks[1]
    choice = _choice(graph, predictions, shape, coefficients)
    if choice is None:
        head = _dense(graph, predictions, shape, size, coefficients)
        return _noted(replace(head, prototypes=prototypes, nodes=(end,)), masks, notes)
    dense, rows = choice
    head = _dense(graph, dense, rows, size, coefficients)
    _check_choice(graph, predictions, dense, head, shape[1])
    if not head.corners:
        raise Declined(RULE, "it chooses by itself, and its boxes are centre and size", end)
    head = replace(
        head, predictions=predictions, prototypes=prototypes, chosen=shape[1], nodes=(end,)
    )
    return _noted(head, masks, notes)


def _noted(head: YoloHead, masks: tuple[int, ...], notes: Notes) -> YoloHead:
    boxes = {
        "bins": "boxes by distances, each the mean of a distribution",
        "distances": "boxes by distances",
        "anchors": "boxes by anchors, and a score of the place itself",
    }[head.kind]
    strides = ", ".join(map(str, head.strides))
    form = "corners" if head.corners else "centre and size"
    end = (
        f"the file chooses the best {head.chosen} itself, so that no NMS follows"
        if head.chosen
        else "NMS is not in the file"
    )
    notes.add(
        RULE,
        f"{head.family}: {head.classes} classes, {head.places} places at strides {strides}; "
        f"{boxes}, as {form} in pixels; {end}",
        head.nodes,
    )
    notes.add(
        "prototypes",
        f"{masks[1]} of {masks[2]} x {masks[3]}, mixed by each row's coefficients",
        (),
    )
    return head


def _outputs(graph: Graph) -> tuple[str, str]:
    ranks = {name: len(graph.shape(name) or ()) for name in graph.outputs}
    rows = [name for name, rank in ranks.items() if rank == 3]
    maps = [name for name, rank in ranks.items() if rank == 4]
    if len(rows) != 1 or len(maps) != 1:
        raise Declined(RULE, f"it needs one output of predictions [1, A, rows] and one of "
                       f"prototypes [1, nm, h, w], and the file has {_shapes(graph)}")  # fmt: skip
    return rows[0], maps[0]


def _shapes(graph: Graph) -> str:
    shown = []
    for name in graph.outputs:
        shape = graph.shape(name)
        sides = "?" if shape is None else ", ".join("?" if s is None else str(s) for s in shape)
        shown.append(f"[{sides}]")
    return " and ".join(shown) or "none"


def _static(graph: Graph, name: str, rank: int) -> tuple[int, ...]:
    shape = graph.shape(name)
    if shape is None or len(shape) != rank or None in shape or shape[0] != 1:
        raise Declined(RULE, f"the output {name!r} has the shape {list(shape or ())}, and one "
                       f"picture's of rank {rank} is taken", graph.maker(name))  # fmt: skip
    return tuple(int(side or 0) for side in shape)


def _choice(
    graph: Graph, output: str, shape: tuple[int, ...], coefficients: int
) -> tuple[str, tuple[int, ...]] | None:
    """Return the predictions that the file chooses from by itself; None if it does not."""
    if shape[2] <= 6 + coefficients - 1 or not _depends_on(graph, output, "TopK"):
        return None
    end = graph.maker(output)
    place = len(graph.nodes) if end is None else graph.order[id(end)]
    for node in reversed(graph.nodes[:place]):
        name = node.output
        found = graph.shape(name)
        if node.op not in ("Concat", "Transpose") or found is None or len(found) != 3:
            continue
        sides = tuple(int(side or 0) for side in found)
        if min(sides[1:]) < 4 + coefficients or max(sides[1:]) <= shape[1]:
            continue
        if frontier(graph, output, lambda other, node=node: other is node) == [name]:  # type: ignore[misc]
            return name, sides
    raise Declined(RULE, "it chooses among predictions that no single tensor holds", end)


def _depends_on(graph: Graph, name: str, op: str) -> bool:
    seen, waiting = {name}, [name]
    while waiting:
        maker = graph.maker(waiting.pop())
        if maker is None or maker.op in LAYERS:
            continue
        if maker.op == op:
            return True
        fresh = [n for n in maker.inputs if n and n not in seen]
        seen.update(fresh)
        waiting += fresh
    return False


def _dense(
    graph: Graph, name: str, shape: tuple[int, ...], size: tuple[int, int], coefficients: int
) -> YoloHead:
    """Return what the predictions `name` are, without the outputs' names."""
    end = graph.maker(name)
    levels = _levels(graph, name, size, end)
    cells = sum(level.height * level.width for level in levels)
    fused = all(len(level.sources) == 1 for level in levels)
    for places_first in (False, True):
        places, rows = shape[1:] if places_first else shape[:0:-1]
        if places % cells == 0 and rows > 4 + coefficients and places >= rows // 64:
            a_cell = places // cells
            break
    else:
        raise Declined(RULE, f"its predictions {list(shape)} are not of the {cells} places of the "
                       "last convolutions' maps", end)  # fmt: skip
    generator = np.random.default_rng(0)
    feeds = {
        source: generator.normal(0, 2, (1, c, level.height, level.width)).astype(np.float32)
        for level in levels
        for source, c in zip(level.sources, level.channels, strict=True)
    }
    found = compute(graph, RULE, name, feeds)[0]
    found = (found if places_first else found.T).astype(np.float64)
    head = YoloHead(
        name, "", size, rows - 4 - coefficients, coefficients, places,
        tuple(level.stride for level in levels), "bins", places_first, False, 0, (),
    )  # fmt: skip
    if fused and a_cell * (rows) == levels[0].channels[0] and rows > 5 + coefficients:
        zeros = compute(graph, RULE, name, {n: np.zeros_like(v) for n, v in feeds.items()})[0]
        sizes = (zeros if places_first else zeros.T)[:, 2:4]
        check_anchored(found, feeds, levels, a_cell, sizes.astype(np.float64), end)
        return replace(head, classes=rows - 5 - coefficients, kind="anchors")
    if a_cell != 1:
        raise Declined(RULE, f"it predicts {a_cell} boxes a cell by no rule of a YOLO's", end)
    return _anchor_free(head, found, feeds, levels, end)


def _levels(graph: Graph, name: str, size: tuple[int, int], end: Node | None) -> tuple[Level, ...]:
    sources = frontier(graph, name, lambda node: _is_last_layer(graph, node))
    maps: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for source in sources:
        shape = graph.shape(source)
        if shape is None or len(shape) != 4 or None in shape:
            raise Declined(RULE, "its predictions are made of more than maps of convolutions",
                           graph.maker(source) or end)  # fmt: skip
        _, channels, height, width = (int(side or 0) for side in shape)
        maps.setdefault((height, width), []).append((source, channels))
    levels = []
    for (height, width), found in sorted(maps.items(), reverse=True):
        stride = size[0] // height
        if (stride * height, stride * width) != size:
            raise Declined(RULE, f"a map of {height} x {width} does not divide the picture of "
                           f"{size[0]} x {size[1]} evenly", graph.maker(found[0][0]))  # fmt: skip
        names, channels_of = zip(*found, strict=True)
        levels.append(Level(names, channels_of, height, width, stride))
    if not levels:
        raise Declined(RULE, "no convolution makes its predictions", end)
    return tuple(levels)


def _is_last_layer(graph: Graph, node: Node) -> bool:
    """Whether `node` is a layer, and not the mean of a distribution, which is written as one."""
    if node.op not in LAYERS:
        return False
    data = strip(graph, node.inputs[0], LAYOUT)
    maker = graph.maker(data)
    return maker is None or maker.op != "Softmax"


def _anchor_free(
    head: YoloHead,
    found: np.ndarray,
    feeds: dict[str, np.ndarray],
    levels: tuple[Level, ...],
    end: Node | None,
) -> YoloHead:
    wrong = "its rows are not made of one box, scores and coefficients a place"
    for order in _orders(head, levels):
        boxes, scores, mixed = (_joined(feeds, levels, order[i]) for i in range(3))
        rows = found[:, 4:]
        if not np.allclose(rows[:, : head.classes], sigmoid(scores), atol=1e-5):
            wrong = "its scores are not the sigmoids of what a convolution makes"
            continue
        if not np.allclose(rows[:, head.classes :], mixed, atol=1e-4):
            wrong = "its coefficients are not what a convolution makes"
            continue
        bins = boxes.shape[1] // 4
        corners = by_distances(distances_of(boxes, bins), levels)
        scale = np.concatenate([np.full(v.height * v.width, v.stride) for v in levels])[:, None]
        kind = "distances" if bins == 1 else "bins"
        for is_corners, expected in ((True, corners), (False, centred(corners))):
            if np.allclose(found[:, :4] / scale, expected / scale, atol=_NEAR):
                return replace(head, kind=kind, corners=is_corners)
        wrong = "its boxes are not distances from the centres of cells, in pixels"
    raise Declined(RULE, wrong, end)


def _orders(head: YoloHead, levels: tuple[Level, ...]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield, for boxes, scores and coefficients, which source of each level may hold them."""
    if any(len(level.sources) != 3 for level in levels):
        return
    choices = []
    for level in levels:
        fitting = [
            order
            for order in itertools.permutations(range(3))
            if level.channels[order[1]] == head.classes
            and level.channels[order[2]] == head.coefficients
            and level.channels[order[0]] % 4 == 0
            and level.channels[order[0]] <= 4 * _MOST_BINS
        ]
        choices.append(fitting)
    for orders in itertools.product(*choices):
        yield tuple(zip(*orders, strict=True))


def _joined(
    feeds: dict[str, np.ndarray], levels: tuple[Level, ...], which: tuple[int, ...]
) -> np.ndarray:
    """Return float64 `[A, c]` of one source of each level."""
    parts = [
        feeds[level.sources[index]][0].reshape(level.channels[index], -1).T
        for level, index in zip(levels, which, strict=True)
    ]
    return np.concatenate(parts).astype(np.float64)


def _check_choice(graph: Graph, output: str, dense: str, head: YoloHead, most: int) -> None:
    """Hold the file's own choice against its formula, on random predictions."""
    end = graph.maker(output)
    generator = np.random.default_rng(1)
    rows = 4 + head.classes + head.coefficients
    values = generator.normal(0, 1, (head.places, rows))
    scores = generator.permutation(head.places * head.classes).reshape(head.places, -1)
    values[:, 4 : 4 + head.classes] = (scores + 1) / (scores.size + 1)
    values = values.astype(np.float32)
    feed = values[None] if head.places_first else np.ascontiguousarray(values.T)[None]
    found = compute(graph, RULE, output, {dense: feed})[0]
    if not np.allclose(found, _chosen(values, head, most), atol=1e-5):
        raise Declined(RULE, "what it chooses is not the best places by their best class, and of "
                       "those the best classes", end)  # fmt: skip


def _chosen(values: np.ndarray, head: YoloHead, most: int) -> np.ndarray:
    scores = values[:, 4 : 4 + head.classes]
    places = np.argsort(-scores.max(1), kind="stable")[:most]
    flat = scores[places].ravel()
    best = np.argsort(-flat, kind="stable")[:most]
    place, label = places[best // head.classes], best % head.classes
    parts = [values[place, :4], flat[best][:, None], label[:, None].astype(np.float32)]
    return np.concatenate([*parts, values[place, 4 + head.classes :]], 1)
