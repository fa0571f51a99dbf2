"""Constants that are larger than what they were computed from: they are kept as the nodes.

Folding computes all that no picture changes, as the rules need it. A grid of indices that an
exporter makes of four numbers would be written into the canonical graph as megabytes, though.
"""

from collections.abc import Callable, Mapping

import numpy as np

from .graph import Node

__all__ = ["LARGE", "grown", "has_grown"]

LARGE = 1 << 20  # bytes; what is smaller may be stored whatever it came from
_TIMES = 2


def has_grown(stored: int, sources: int) -> bool:
    """Whether `stored` bytes are much more than the `sources` that they are computed from."""
    return stored > LARGE and stored > _TIMES * sources


def grown(
    name: str, made: Mapping[str, Node], value: Callable[[str], np.ndarray | None]
) -> list[Node] | None:
    """Return the nodes that make the constant `name`, in order; None if it has not grown.

    Args:
        name: of a constant.
        made: constant -> the node that it was computed by.
        value: the number of each.
    """
    array = value(name)
    if array is None or array.nbytes <= LARGE or name not in made:
        return None
    nodes: dict[int, Node] = {}
    leaves: dict[str, int] = {}
    waiting: list[tuple[str, bool]] = [(name, False)]
    while waiting:
        current, ready = waiting.pop()
        node = made.get(current)
        if node is None:
            found = value(current)
            leaves[current] = 0 if found is None else found.nbytes
        elif ready:
            nodes[id(node)] = node
        elif id(node) not in nodes:
            waiting.append((current, True))
            waiting += [(n, False) for n in node.inputs if n]
    return list(nodes.values()) if has_grown(array.nbytes, sum(leaves.values())) else None
