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
    """A mask stage: `logits [D, classes, h, w]`, pooled by `pool`, pasted or not."""

    pool: Pool
    logits: str
    pasted: bool
    nodes: tuple[Node, ...]


def read_masks(graph: Graph, output: str, pool: Pool, detections: Detections) -> Masks:
    """Return the mask stage that ends in `output`."""
    sigmoid = _sigmoid(graph, output, pool)
    chosen, paste = _chosen(graph, output, sigmoid)
    _check_choice(graph, chosen, sigmoid, pool, detections)
    shape = graph.shape(sigmoid.output)
    if shape is None or len(shape) != 4 or shape[1] != detections.classes:
        raise Declined(RULE, f"there are not {detections.classes} masks a detection", sigmoid)
    nodes = (*pool.nodes, sigmoid) if paste is None else (*pool.nodes, sigmoid, paste)
    return Masks(pool, sigmoid.inputs[0], paste is not None, nodes)


def _sigmoid(graph: Graph, output: str, pool: Pool) -> Node:
    places = frontier(graph, output, lambda n: n.op in ("Sigmoid", *LAYERS) or n in pool.nodes)
    makers = [m for m in map(graph.maker, places) if m is not None]
    found = {id(m): m for m in makers if m.op == "Sigmoid"}
    for node in found.values():
        if frontier(graph, node.inputs[0], lambda n: n.output == pool.output) == [pool.output]:
            return node
    raise Declined(RULE, "its masks are not the sigmoid of what a mask head makes", pool.nodes[0])


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
    graph: Graph, chosen: str, sigmoid: Node, pool: Pool, detections: Detections
) -> None:
    count = detections.classes
    shape = (_ROWS, count, *_sides(graph, sigmoid, pool))
    numbers = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    labels = np.array([count - 1, 1, count // 2], np.int64)
    feeds: dict[str, np.ndarray] = {
        sigmoid.output: numbers, sigmoid.inputs[0]: numbers, detections.labels: labels,
        detections.boxes: np.zeros((_ROWS, 4), np.float32),
    }  # fmt: skip
    found = compute(graph, RULE, chosen, feeds)
    expected = numbers[np.arange(_ROWS), labels]
    if found.size != expected.size or (found.reshape(expected.shape) != expected).any():
        raise Declined(RULE, "the mask of another class than the detection's own is taken", sigmoid)


def _sides(graph: Graph, sigmoid: Node, pool: Pool) -> tuple[int, int]:
    """Return height and width of a mask: as the graph says, else twice the pooled ones."""
    shape = graph.shape(sigmoid.output)
    if shape is not None and len(shape) == 4 and shape[2] and shape[3]:
        return shape[2], shape[3]
    height, width = (pool.attributes[f"output_{side}"] for side in ("height", "width"))
    return 2 * height, 2 * width
