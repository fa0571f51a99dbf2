"""Rule `masks`: the mask of each detection's own class, and its pasting into the picture.

    probabilities [D, classes, h, w] → [n, label[n]] → padded by one pixel, resized to the box

The choice stays in the graph; the pasting is left to the session, which does it as torchvision.
"""

from dataclasses import dataclass

import numpy as np

from .declined import Declined
from .detections import Detections
from .graph import Graph, Node
from .pyramid import Pool
from .walk import LAYERS, compute, frontier

__all__ = ["Masks", "read_masks"]

RULE = "masks"
_ROWS = 3


@dataclass(frozen=True)
class Masks:
    """A mask stage: `logits [D, channels, h, w]`, pooled by `pool`, pasted or not.

    If it is `shared`, there is one channel, whatever the class.
    """

    pool: Pool
    logits: str
    pasted: bool
    nodes: tuple[Node, ...]
    shared: bool = False


def read_masks(graph: Graph, output: str, pool: Pool, detections: Detections) -> Masks:
    """Return the mask stage that ends in `output`."""
    sigmoid = _sigmoid(graph, output, pool)
    logits = _logits(graph, sigmoid, pool)
    chosen, paste = _chosen(graph, output, sigmoid)
    shape, last = graph.shape(logits), detections.first_label + detections.classes - 2
    if shape is None or len(shape) != 4 or shape[1] not in (1, last + 1):
        raise Declined(RULE, f"there are neither {last + 1} masks a detection nor one for all "
                       "classes", sigmoid)  # fmt: skip
    _check_choice(graph, chosen, logits, pool, detections)
    nodes = (*pool.nodes, sigmoid) if paste is None else (*pool.nodes, sigmoid, paste)
    return Masks(pool, logits, paste is not None, nodes, shape[1] == 1 < last + 1)


def _sigmoid(graph: Graph, output: str, pool: Pool) -> Node:
    places = frontier(graph, output, lambda n: n.op in ("Sigmoid", *LAYERS) or n in pool.nodes)
    makers = [m for m in map(graph.maker, places) if m is not None]
    found = {id(m): m for m in makers if m.op == "Sigmoid"}
    for node in found.values():
        if pool.output in frontier(graph, node.inputs[0], lambda n: n.output == pool.output):
            return node
    raise Declined(RULE, "its masks are not the sigmoid of what a mask head makes", pool.nodes[0])


def _logits(graph: Graph, sigmoid: Node, pool: Pool) -> str:
    """Return the mask head's output, which is chosen from before or after the sigmoid."""
    places = frontier(graph, sigmoid.inputs[0], lambda n: n.op in LAYERS)
    for place in places:
        if frontier(graph, place, lambda n: n.output == pool.output) == [pool.output]:
            return place
    raise Declined(RULE, "its masks are not the sigmoid of what a mask head makes", sigmoid)


def _chosen(graph: Graph, output: str, sigmoid: Node) -> tuple[str, Node | None]:
    """Return the masks `[D, 1, h, w]` before they are padded and pasted, and the paste's node."""
    waiting, seen = [sigmoid.output], {sigmoid.output}
    while waiting:
        name = waiting.pop(0)
        for reader in graph.readers(name):
            if reader.op == "Pad" and reader.inputs[0] == name:
                return name, _paste(graph, reader)
            for made in reader.outputs:
                if made not in seen:
                    seen.add(made)
                    waiting.append(made)
    if output not in seen:
        raise Declined(RULE, "the last output does not come from the mask head", sigmoid)
    return output, None


def _paste(graph: Graph, pad: Node) -> Node:
    waiting, seen = list(pad.outputs), set(pad.outputs)
    while waiting:
        for reader in graph.readers(waiting.pop(0)):
            if reader.op == "Loop":
                return reader
            waiting += [o for o in reader.outputs if o not in seen]
            seen.update(reader.outputs)
    raise Declined(RULE, "its padded masks are not pasted in a loop", pad)


def _check_choice(
    graph: Graph, chosen: str, logits: str, pool: Pool, detections: Detections
) -> None:
    first, count = detections.first_label, detections.classes - 1
    rows = _rows(graph, logits)
    channels = (graph.shape(logits) or ())[1] or 1
    shape = (rows, channels, *_sides(graph, logits, pool))
    numbers = np.linspace(-6, 6, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    labels = first + np.resize([count - 1, 0, count // 2], rows).astype(np.int64)
    feeds = {logits: numbers, **detections.fed(labels)}
    found = compute(graph, RULE, chosen, feeds)
    own = labels if channels > 1 else np.zeros_like(labels)
    expected = 1 / (1 + np.exp(-numbers[np.arange(rows), own]))
    if found.size != expected.size or not np.allclose(
        found.reshape(expected.shape), expected, atol=1e-7, rtol=1e-6
    ):
        raise Declined(RULE, "the mask of another class than the detection's own is taken",
                       graph.maker(logits))  # fmt: skip


def _rows(graph: Graph, logits: str) -> int:
    """Return how many detections there are, or a few if their number is not fixed."""
    shape = graph.shape(logits)
    return shape[0] if shape is not None and shape[0] else _ROWS


def _sides(graph: Graph, logits: str, pool: Pool) -> tuple[int, int]:
    """Return height and width of a mask: as the graph says, else twice the pooled ones."""
    shape = graph.shape(logits)
    if shape is not None and len(shape) == 4 and shape[2] and shape[3]:
        return shape[2], shape[3]
    height, width = (pool.attributes[f"output_{side}"] for side in ("height", "width"))
    return 2 * height, 2 * width
