"""Decoding of detections: which codes move which class's box, told by decoding known ones.

boxes[n, class] = decode(codes[n, class], proposals[n])       or one box for all classes
boxes[n] = decode(codes[n, best], proposals[n]),  best = argmax of the scores       (mmdetection)
"""

import numpy as np

from .anchors import central_boxes
from .box_codec import Codec, read_codec
from .declined import Declined
from .graph import Graph, Node
from .proposals import Proposals
from .walk import compute

__all__ = ["Decoding"]

RULE = "detections"
_FAR = 1e6


class Decoding:
    """What makes the boxes of `foreground` classes out of codes and proposals.

    Attributes:
        own: how many boxes a proposal has codes for.
        corner: `(x, y)` that boxes are clipped to.
    """

    def __init__(
        self, graph: Graph, boxes: str, codes: str, proposals: Proposals, foreground: int,
        node: Node, best: tuple[str, int] | None = None,
    ) -> None:  # fmt: skip
        """Find the corner.

        Args:
            graph: folded.
            boxes: what is decoded.
            codes: `[N, 4 own]`.
            proposals: which feeds there are.
            foreground: classes but the background.
            node: what messages point at.
            best: the tensor of scores `[1, N, foreground]` whose best class's box is taken, and
                where the first of these classes stands among all.
        """
        self._graph, self._boxes, self._codes, self._node = graph, boxes, codes, node
        self._proposals, self._foreground, self._best = proposals, foreground, best
        shape = graph.shape(codes)
        self.own = 0 if shape is None or shape[-1] is None else shape[-1] // 4
        if shape is None or shape[-1] not in (4, 4 * foreground, 4 * foreground + 4):
            raise Declined(RULE, "there are not four codes for each class", graph.maker(codes))
        self.corner = self._corner()
        self._start = central_boxes(self.corner)

    def codec(self) -> Codec:
        """Return the box codec."""
        return read_codec(RULE, self._node, lambda code: self._same(self._start, code), self._start)

    def first_own(self) -> int:
        """Return where the codes of the first foreground class stand among those of all."""
        first = self.own - self._foreground if self.own > 1 or self._foreground == 1 else 0
        for wanted in {0, self._foreground - 1}:
            place = 0 if self.own == 1 else wanted + first
            code = np.zeros((len(self._start), 4 * self.own), np.float32)
            code[:, 4 * place : 4 * place + 4] = 0.5
            changed = np.abs(self._of(self._start, code) - self._start[:, None]).max((0, 2))
            others = np.delete(changed, wanted) if self.own > 1 else np.zeros(0)
            if changed[wanted] < 1e-3 or others.max(initial=0) > 1e-3:
                raise Declined(RULE, f"class {wanted + 1} is not moved by its own codes",
                               self._graph.maker(self._codes))  # fmt: skip
        return first

    def _of(self, start: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the boxes `[n, foreground, 4]` of proposals `start [n, 4]`."""
        if self._best is not None:
            return self._each_best(start, codes)
        shape = self._graph.shape(self._codes) or ()
        rows = shape[0] if shape and shape[0] else len(start)
        found = self._computed(
            np.resize(start, (rows, 4)), np.resize(codes, (rows, codes.shape[1]))
        )
        if found.size == rows * 4 and self.own == 1:
            found = np.repeat(found.reshape(-1, 1, 4), self._foreground, 1)
        if found.size != rows * self._foreground * 4:
            raise Declined(RULE, "not one box is decoded for each class but the background",
                           self._node)  # fmt: skip
        return found.reshape(rows, self._foreground, 4)[: len(start)]

    def _each_best(self, start: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the same, each class being the best one of a row of its own."""
        assert self._best is not None
        name, count = self._best[0], self._foreground
        scores = np.tile(np.eye(count, dtype=np.float32), (len(start), 1))
        found = self._computed(
            np.repeat(start, count, 0), np.repeat(codes, count, 0), {name: scores[None]}
        )
        if found.size != len(start) * count * 4:
            raise Declined(RULE, "not one box is decoded for each proposal", self._node)
        return found.reshape(len(start), count, 4)

    def _computed(
        self, start: np.ndarray, codes: np.ndarray, more: dict[str, np.ndarray] | None = None
    ) -> np.ndarray:
        feeds = {
            self._codes: codes.astype(np.float32),
            **self._proposals.fed(start),
            **(more or {}),
        }
        return compute(self._graph, RULE, self._boxes, feeds)

    def _same(self, start: np.ndarray, code: np.ndarray) -> np.ndarray:
        """Return the boxes of `start` with the same codes for each class."""
        found = self._of(start, np.tile(code, (1, self.own)))
        if not (found == found[:, :1]).all():
            raise Declined(RULE, "classes are decoded differently", self._node)
        return found[:, 0]

    def _corner(self) -> tuple[float, float]:
        far = np.array([[-_FAR, -_FAR, _FAR, _FAR]], np.float32)
        found = self._same(far, np.zeros((1, 4), np.float32))[0]
        if (found[:2] != 0).any() or (found[2:] >= _FAR).any():
            raise Declined(RULE, "its boxes are not clipped to the picture", self._node)
        return float(found[2]), float(found[3])
