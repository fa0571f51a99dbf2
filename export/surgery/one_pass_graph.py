"""The canonical graph of a detector of one pass: the network as it is, and what its program does.

    YOLO     best class of a place, the best 4096 places, NMS, coefficients of those kept times
             prototypes
    chosen   the rows that the file chose, those above the threshold
    DETR     the best of queries times classes, their boxes and masks

Canonical masks are inside above one half. Logits are inside above zero, and are resized as logits;
so 1/2 is added to them, which resizing keeps as it is.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from .detr import DetrHead
from .emitter import Emitter
from .graph import Graph
from .layers import copy_layers
from .one_pass import OnePass
from .yolo import YoloHead

__all__ = ["one_pass_graph"]

_ANSWERS = "maskrt.answers"  # as `calib/placement.py` reads it
_MOST_CANDIDATES = 4096  # before suppression; as in `canonical.py`
_FLOAT, _INT32, _INT64 = int(TensorProto.FLOAT), int(TensorProto.INT32), int(TensorProto.INT64)
_BESIDE = (
    "Softmax", "Split", "TopK", "GatherElements", "GatherND", "ScatterND", "GridSample", "Expand",
    "Tile", "Where", "Equal", "Less", "Greater", "GreaterOrEqual", "LessOrEqual", "And", "Or",
    "Not", "Abs", "Floor", "Ceil", "Round", "Mod", "Log", "Sin", "Cos", "Einsum", "ReduceMin",
    "ReduceProd", "Pad", "ConstantOfShape", "Reciprocal", "Sign", "ArgMax", "Range", "Max",
)  # fmt: skip


def one_pass_graph(
    graph: Graph, found: OnePass, batch: int = 1, *, given: int = 1
) -> onnx.ModelProto:
    """Return the canonical model of `found`.

    Args:
        graph: it was recognised in this, or in the same for one picture.
        found: what was recognised.
        batch: pictures a call.
        given: pictures that `graph` is for, 1 or `batch`.
    """
    return _Writer(graph, found, batch, given).write()


class _Writer:
    def __init__(self, graph: Graph, found: OnePass, batch: int, given: int) -> None:
        self.graph, self.found, self.batch = graph, found, batch
        self.wider = batch // given  # times as many pictures as the graph is for
        self.out = Emitter()
        self.answers: list[str] = []
        self.height, self.width = found.preprocessing.size

    def write(self) -> onnx.ModelProto:
        out, head = self.out, self.found.head
        if isinstance(head, DetrHead):
            boxes, scores, labels, masks, count = self._detr(head)
        elif head.chosen:
            boxes, scores, labels, masks, count = self._chosen(head)
        else:
            boxes, scores, labels, masks, count = self._yolo(head)
        images = helper.make_tensor_value_info(
            "images", TensorProto.UINT8, (self.batch, self.height, self.width, 3)
        )
        model = out.finish([images], [
            ("boxes", boxes, _FLOAT), ("scores", scores, _FLOAT), ("labels", labels, _INT32),
            ("masks", masks, _FLOAT), ("count", count, _INT32),
        ])  # fmt: skip
        made = {name for node in model.graph.node for name in node.output}
        entry = model.metadata_props.add()
        entry.key, entry.value = _ANSWERS, ",".join(n for n in self.answers if n in made)
        return model

    def _copied(self, *names: str) -> list[str]:
        """Copy the network up to the tensors `names`."""
        known = {self.found.preprocessing.output: self._picture()}
        self.answers = copy_layers(
            self.graph, self.out, names, known, stage="network", batch=self.wider, more=_BESIDE
        )
        return self.answers

    def _picture(self) -> str:
        """Write what comes before the network, rounded as the family's program rounds it.

        `picture / 255` and not `picture · (1 / 255)`: then the same numbers enter the same nodes,
        and scores that tie in the file tie here, too.
        """
        out, how = self.out, self.found.preprocessing
        if not how.outside:
            return how.written(out, self.batch)
        x = out.op("Transpose", out.op("Cast", "images", to=_FLOAT), perm=[0, 3, 1, 2])
        if how.bgr:
            x = out.op("Gather", x, out.ints(2, 1, 0), axis=1)
        x = out.op("Div", x, out.constant(255.0))
        if (how.shift == 0).all() and (how.scale == 1).all():
            return str(x)
        mean, std = (v.reshape(1, 3, 1, 1) for v in (how.mean, 1 / how.scale))
        return str(out.op("Div", out.op("Sub", x, out.constant(mean)), out.constant(std)))

    def _yolo(self, head: YoloHead) -> tuple[str, str, str, str, str]:
        out, choice = self.out, self.found.choice
        rows, prototypes = self._copied(head.predictions, head.prototypes)
        first = 5 if head.objectness else 4
        scores = self._columns(head, rows, first, first + head.classes)
        if head.objectness:
            scores = out.op("Mul", scores, self._columns(head, rows, 4, 5))
        best = out.op("ReduceMax", scores, out.ints(2), keepdims=0)
        label = out.op("ArgMax", scores, axis=2, keepdims=0)
        most = min(_MOST_CANDIDATES, head.places)
        score, place = out.op("TopK", best, out.ints(most), outputs=2, axis=-1)
        boxes = self._rows(self._columns(head, rows, 0, 4), place, most, 4)
        if not head.corners:
            boxes = self._corners(boxes)
        label = out.op("GatherElements", label, place, axis=1)
        label = out.op("Add", out.op("Cast", label, to=_INT32), out.constant(1, np.int32))
        kept = min(choice.max_detections, most)
        boxes, score, label, index, count = self._suppress(boxes, score, label, kept)
        place = out.op("GatherElements", place, out.op("Cast", index, to=_INT64), axis=1)
        start = first + head.classes
        mixed = self._rows(
            self._columns(head, rows, start, start + head.coefficients), place, kept,
            head.coefficients,
        )  # fmt: skip
        masks = self._mixed(head, mixed, prototypes, boxes, kept)
        return boxes, score, label, self._real(masks, self._below(count, kept)), count

    def _chosen(self, head: YoloHead) -> tuple[str, str, str, str, str]:
        out, choice = self.out, self.found.choice
        rows, prototypes = self._copied(head.predictions, head.prototypes)
        kept = min(choice.max_detections, head.chosen)
        if kept < head.chosen:
            rows = out.op("Slice", rows, out.ints(0), out.ints(kept), out.ints(1))
        score, label = (
            out.op("Reshape", out.slice_last(rows, at, at + 1), out.ints(self.batch, kept))
            for at in (4, 5)
        )
        label = out.op("Add", out.op("Cast", label, to=_INT32), out.constant(1, np.int32))
        boxes = out.slice_last(rows, 0, 4)
        mixed = out.slice_last(rows, 6, 6 + head.coefficients)
        masks = self._mixed(head, mixed, prototypes, boxes, kept)
        return self._above(boxes, score, label, masks)

    def _detr(self, head: DetrHead) -> tuple[str, str, str, str, str]:
        out, choice = self.out, self.found.choice
        boxes, scores, masks = self._copied(head.boxes, head.scores, head.masks)
        if not head.squashed:
            scores = out.op("Sigmoid", scores)
        kept = min(choice.max_detections, head.queries * head.classes)
        flat = out.op("Reshape", scores, out.ints(self.batch, -1))
        score, place = out.op("TopK", flat, out.ints(kept), outputs=2, axis=-1)
        query, label = self._query_and_label(place, head)
        parts = self._rows(boxes, query, kept, 4)
        sides = (self.width, self.height, self.width, self.height)
        boxes = out.op("Mul", self._corners(parts), out.constant(sides))
        masks = out.op("GatherND", masks, out.op("Unsqueeze", query, out.ints(2)), batch_dims=1)
        if not head.masks_squashed:
            masks = out.op("Add", masks, out.constant(0.5))
        return self._above(boxes, score, label, masks)

    def _query_and_label(self, place: str, head: DetrHead) -> tuple[str, str]:
        """Split `place = query · classes + class`, as TensorRT divides: in floats."""
        out = self.out
        quotient = out.op("Div", out.op("Cast", place, to=_FLOAT), out.constant(head.classes))
        query = out.op("Cast", out.op("Floor", quotient), to=_INT64)
        behind = out.op("Mul", query, out.constant(head.classes, np.int64))
        label = out.op("Cast", out.op("Sub", place, behind), to=_INT32)
        if head.first_label:
            label = out.op("Add", label, out.constant(head.first_label, np.int32))
        return query, label

    def _above(
        self, boxes: str, score: str, label: str, masks: str
    ) -> tuple[str, str, str, str, str]:
        """Zero what scores no more than the threshold: rows are sorted, so the last ones."""
        out = self.out
        threshold = out.constant(self.found.choice.score_threshold)
        real = out.op("Greater", score, threshold)
        number = out.op("Cast", real, to=_INT32)
        count = out.op("ReduceSum", number, out.ints(1), keepdims=0)
        wide = out.op("Unsqueeze", real, out.ints(2))
        boxes = out.op("Where", wide, boxes, out.constant(0.0))
        score = out.op("Where", real, score, out.constant(0.0))
        label = out.op("Mul", label, number)
        return boxes, score, label, self._real(masks, real), count

    def _columns(self, head: YoloHead, rows: str, start: int, stop: int) -> str:
        """Return some columns of every place, `[B, A, stop - start]`."""
        out = self.out
        axis = 2 if head.places_first else 1
        cut = out.op("Slice", rows, out.ints(start), out.ints(stop), out.ints(axis))
        return str(cut if head.places_first else out.op("Transpose", cut, perm=[0, 2, 1]))

    def _rows(self, data: str, place: str, count: int, width: int) -> str:
        """Return rows `place [B, K]` of `data [B, N, width]`."""
        out = self.out
        wide = out.op("Expand", out.op("Unsqueeze", place, out.ints(2)),
                      out.ints(self.batch, count, width))  # fmt: skip
        return str(out.op("GatherElements", data, wide, axis=1))

    def _corners(self, boxes: str) -> str:
        """Return corners of centre and size."""
        out = self.out
        centre, size = out.slice_last(boxes, 0, 2), out.slice_last(boxes, 2, 4)
        half = out.op("Mul", size, out.constant(0.5))
        return str(
            out.op("Concat", out.op("Sub", centre, half), out.op("Add", centre, half), axis=-1)
        )

    def _suppress(self, boxes: str, scores: str, labels: str, most: int) -> list[str]:
        choice = self.found.choice
        shapes = (((4,), _FLOAT), ((), _FLOAT), ((), _INT32), ((), _INT32))
        outputs = [("", kind, (self.batch, most, *shape)) for shape, kind in shapes]
        outputs.append(("", _INT32, (self.batch,)))
        return self.out.maskrt("BatchedNMS", [boxes, scores, labels], outputs, {
            "iou_threshold": choice.iou_threshold, "score_threshold": choice.score_threshold,
            "max_outputs": most, "class_agnostic": int(choice.class_agnostic),
        })  # fmt: skip

    def _mixed(
        self, head: YoloHead, coefficients: str, prototypes: str, boxes: str, kept: int
    ) -> str:
        """Return masks `[B, D, h, w]` of coefficients `[B, D, nm]`."""
        out = self.out
        shape = self.graph.shape(head.prototypes)
        assert shape is not None
        height, width = (int(side or 0) for side in shape[2:])
        flat = out.op("Reshape", prototypes, out.ints(self.batch, head.coefficients, -1))
        logits = out.op("MatMul", coefficients, flat)
        logits = out.op("Reshape", logits, out.ints(self.batch, kept, height, width))
        if self.found.choice.mask_crop != "prototypes":
            return str(out.op("Add", logits, out.constant(0.5)))
        masks = out.op("Sigmoid", logits)
        return str(out.op("Mul", masks, self._inside(boxes, height, width)))

    def _inside(self, boxes: str, height: int, width: int) -> str:
        """Return 1 for elements whose numbers are in the box, float `[B, D, h, w]`."""
        out = self.out
        ratio = (width / self.width, height / self.height) * 2
        scaled = out.op("Mul", boxes, out.constant(ratio))
        x1, y1, x2, y2 = (
            out.op("Unsqueeze", out.slice_last(scaled, at, at + 1), out.ints(3)) for at in range(4)
        )
        x = out.constant(np.arange(width).reshape(1, 1, 1, width))
        y = out.constant(np.arange(height).reshape(1, 1, height, 1))
        sides = [
            out.op("And", out.op("GreaterOrEqual", at, low), out.op("Less", at, high))
            for at, low, high in ((x, x1, x2), (y, y1, y2))
        ]
        return str(out.op("Cast", out.op("And", *sides), to=_FLOAT))

    def _below(self, count: str, length: int) -> str:
        """Return which of `length` rows are below `count [B]`, bool `[B, length]`."""
        out = self.out
        limit = out.op("Cast", out.op("Unsqueeze", count, out.ints(1)), to=_INT64)
        return str(out.op("Less", out.constant(np.arange(length), np.int64), limit))

    def _real(self, masks: str, real: str) -> str:
        out = self.out
        wide = out.op("Unsqueeze", real, out.ints(2, 3))
        return str(out.op("Mul", masks, out.op("Cast", wide, to=_FLOAT)))
