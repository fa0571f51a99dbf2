"""The canonical two-stage graph, written from the stages of a foreign one.

Backbone and heads are copied; what torchvision does between them is written with fixed numbers of
candidates, proposals and detections, operator by operator as `export/families` traces it.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from .box_codec import Codec
from .emitter import Emitter
from .graph import Graph
from .layers import copy_layers
from .masks import Masks
from .pyramid import Pool
from .two_stage import TwoStage
from .widened import least_sides

__all__ = ["canonical_graph"]

_MOST_CANDIDATES = 3840  # before the last suppression; as in `families/torchvision_two_stage.py`
_REJECTED = -1.0  # the score of a candidate that the foreign graph would have dropped
_NO_LOGIT = -1e30  # the same where scores are logits
_FLOAT, _INT32 = int(TensorProto.FLOAT), int(TensorProto.INT32)


def canonical_graph(graph: Graph, stages: TwoStage, batch: int = 1) -> onnx.ModelProto:
    """Return the canonical model of `stages`, which were recognised in `graph`."""
    return _Writer(graph, stages, batch).write()


class _Writer:
    def __init__(self, graph: Graph, stages: TwoStage, batch: int) -> None:
        self.graph = graph
        self.stages = stages
        self.batch = batch
        self.out = Emitter()
        self.features: dict[str, str] = {}

    def write(self) -> onnx.ModelProto:
        out, stages = self.out, self.stages
        self._backbone()
        proposals, real = self._proposals()
        boxes, scores, labels, count = self._detections(proposals, real)
        outputs = [("boxes", self._in_picture(boxes), _FLOAT), ("scores", scores, _FLOAT),
                   ("labels", labels, _INT32)]  # fmt: skip
        if stages.masks is not None:
            masks = self._masks(stages.masks, boxes, labels, count)
            outputs.append(("masks", masks, _FLOAT))
        outputs.append(("count", count, _INT32))
        height, width = stages.preprocessing.size
        images = helper.make_tensor_value_info(
            "images", TensorProto.UINT8, (self.batch, height, width, 3)
        )
        return out.finish([images], outputs)

    def _backbone(self) -> None:
        stages, masks = self.stages, self.stages.masks
        pools = [stages.box_pool] + ([masks.pool] if masks is not None else [])
        heads = [n for level in stages.proposals.levels for n in (level.objectness, level.deltas)]
        maps = list(dict.fromkeys(f for pool in pools for f in pool.features))
        self.features = {stages.preprocessing.output: self._picture()}
        for stage, names in (("backbone", maps), ("rpn", heads)):
            copy_layers(self.graph, self.out, names, self.features, stage=stage, batch=self.batch)

    def _picture(self) -> str:
        return self.stages.preprocessing.written(self.out, self.batch)

    def _proposals(self) -> tuple[str, str]:
        """Return proposals `[B, P, 4]` and which of them are real, bool `[B, P]`."""
        out, how = self.out, self.stages.proposals
        parts = [self._best_anchors(index) for index in range(len(how.levels))]
        boxes = out.op("Concat", *(p[0] for p in parts), axis=1)
        scores = out.op("Concat", *(p[1] for p in parts), axis=1)
        counts = [min(level.most, len(level.anchors)) for level in how.levels]
        numbers = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        labels = out.constant(np.tile(numbers, (self.batch, 1)), np.int32)
        rejected = _REJECTED if how.probabilities else _NO_LOGIT
        scores = self._reject(boxes, scores, how.smallest, how.score, rejected)
        kept, _, _, _, count = self._suppress(
            boxes,
            scores,
            labels,
            how.iou_threshold,
            rejected / 2,
            min(how.most, sum(counts)),
            agnostic=not how.per_level,
        )
        if how.padded:  # the foreign graph takes one row of zeros for a proposal
            count = out.op("Add", count, out.constant(1, np.int32))
        return kept, self._below(count, min(how.most, sum(counts)))

    def _best_anchors(self, index: int) -> tuple[str, str]:
        """Return the best anchors of one level, decoded and clipped, and their scores."""
        out, how = self.out, self.stages.proposals
        level = how.levels[index]
        shape = self.graph.shape(level.objectness)
        assert shape is not None
        _, anchors, height, width = (int(side or 0) for side in shape)
        logits = out.op("Transpose", self.features[level.objectness], perm=[0, 2, 3, 1])
        logits = out.op("Reshape", logits, out.ints(self.batch, -1))
        if level.squashed:
            logits = out.op("Sigmoid", logits)
        codes = out.op("Reshape", self.features[level.deltas],
                       out.ints(self.batch, anchors, 4, height, width))  # fmt: skip
        codes = out.op("Transpose", codes, perm=[0, 3, 4, 1, 2])
        codes = out.op("Reshape", codes, out.ints(self.batch, -1, 4))
        most = min(level.most, len(level.anchors))
        best, place = out.op("TopK", logits, out.ints(most), outputs=2, axis=-1)
        starts = out.op("Gather", out.constant(level.anchors, name="anchors"), place)
        boxes = self._decode(self._rows(codes, place, most), starts, how.codec)
        if how.probabilities and not level.squashed:
            best = out.op("Sigmoid", best)
        return boxes, best

    def _rows(self, data: str, place: str, count: int) -> str:
        """Return rows `place [B, K]` of `data [B, N, 4]`."""
        out = self.out
        wide = out.op("Expand", out.op("Unsqueeze", place, out.ints(2)),
                      out.ints(self.batch, count, 4))  # fmt: skip
        return str(out.op("GatherElements", data, wide, axis=1))

    def _decode(self, codes: str, boxes: str, codec: Codec) -> str:
        """Decode and clip; see `box_codec`."""
        out = self.out
        if any(weight != 1 for weight in codec.weights):
            codes = out.op("Div", codes, out.constant(codec.weights))
        near, far = out.slice_last(boxes, 0, 2), out.slice_last(boxes, 2, 4)
        sides = out.op("Sub", far, near)
        middle = out.op("Add", near, out.op("Mul", sides, out.constant(0.5)))
        centre = out.op("Add", out.op("Mul", out.slice_last(codes, 0, 2), sides), middle)
        growth = out.slice_last(codes, 2, 4)
        if np.isfinite(codec.limit) or np.isfinite(codec.least):
            bounds = [out.constant(b) if np.isfinite(b) else "" for b in (codec.least, codec.limit)]
            growth = out.op("Clip", growth, *bounds)
        size = out.op("Mul", out.op("Exp", growth), sides)
        half = out.op("Mul", size, out.constant(0.5))
        decoded = out.op("Concat", out.op("Sub", centre, half), out.op("Add", centre, half),
                         axis=-1)  # fmt: skip
        x, y = self.stages.proposals.corner
        return str(
            out.op("Min", out.op("Max", decoded, out.constant(0.0)), out.constant((x, y, x, y)))
        )

    def _reject(
        self, boxes: str, scores: str, smallest: float, least: float, rejected: float
    ) -> str:
        """Return scores, `rejected` where a side or the score is too small."""
        out = self.out
        sides = out.op("Sub", out.slice_last(boxes, 2, 4), out.slice_last(boxes, 0, 2))
        side = out.op("ReduceMin", sides, out.ints(-1), keepdims=0)
        usable = out.op("GreaterOrEqual", side, out.constant(smallest))
        if least > rejected:
            usable = out.op("And", usable, out.op("GreaterOrEqual", scores, out.constant(least)))
        return str(out.op("Where", usable, scores, out.constant(rejected)))

    def _suppress(
        self, boxes: str, scores: str, labels: str, iou: float, score: float, most: int,
        *, agnostic: bool = False,
    ) -> list[str]:  # fmt: skip
        shapes = ((4,), (), (), ())
        kinds = (_FLOAT, _FLOAT, _INT32, _INT32)
        outputs = [
            ("", kind, (self.batch, most, *shape))
            for kind, shape in zip(kinds, shapes, strict=True)
        ]
        outputs.append(("", _INT32, (self.batch,)))
        return self.out.maskrt("BatchedNMS", [boxes, scores, labels], outputs, {
            "iou_threshold": iou, "score_threshold": score, "max_outputs": most,
            "class_agnostic": int(agnostic),
        })  # fmt: skip

    def _below(self, count: str, length: int) -> str:
        """Return which of `length` rows are below `count [B]`, bool `[B, length]`."""
        out = self.out
        limit = out.op("Cast", out.op("Unsqueeze", count, out.ints(1)), to=TensorProto.INT64)
        return str(out.op("Less", out.constant(np.arange(length), np.int64), limit))

    def _detections(self, proposals: str, real: str) -> tuple[str, str, str, str]:
        out, how = self.out, self.stages.detections
        number, classes = self._count_of(), how.classes
        pooled = self._pool(self.stages.box_pool, proposals, number)
        logits, codes = copy_layers(
            self.graph, out, [how.logits, how.codes], {self.stages.box_pool.output: pooled},
            stage="box_head",
        )  # fmt: skip
        scores = out.op("Softmax", logits, axis=-1)
        first = 1 if how.background == 0 else 0
        scores = out.op("Reshape", out.slice_last(scores, first, first + classes - 1),
                        out.ints(self.batch, number, classes - 1))  # fmt: skip
        best = out.op("ArgMax", scores, axis=-1, keepdims=0) if how.best else ""
        scores = out.op("Where", out.op("Unsqueeze", real, out.ints(2)), scores,
                        out.constant(_REJECTED))  # fmt: skip
        scores = out.op("Reshape", scores, out.ints(self.batch, -1))
        most = min(_MOST_CANDIDATES, number * (classes - 1))
        score, place = out.op("TopK", scores, out.ints(most), outputs=2, axis=-1)
        owner, label = self._owner_and_label(place)
        codes = out.op("Reshape", codes, out.ints(self.batch, number * how.own, 4))
        row = self._own_row(owner, label, best)
        boxes = self._decode(
            self._rows(codes, row, most), self._rows(proposals, owner, most), how.codec
        )
        scores = self._reject(boxes, score, how.smallest, _REJECTED, _REJECTED)
        labels = out.op("Cast", label, to=_INT32)
        kept = min(how.most, most)
        found = self._suppress(boxes, scores, labels, how.iou_threshold, how.score, kept)
        return found[0], found[1], found[2], found[4]

    def _own_row(self, owner: str, label: str, best: str) -> str:
        """Return which row of codes is that of proposal `owner` and class `label`, from 1 on.

        If `best [B, N]` is given, each proposal has the box of that class, counted from 0.
        """
        out, how = self.out, self.stages.detections
        if how.own == 1:
            return owner
        if best:
            label = out.op("GatherElements", best, owner, axis=1)
            label = out.op("Add", label, out.constant(1, np.int64))
        row = out.op("Add", out.op("Mul", owner, out.constant(how.own, np.int64)), label)
        shift = how.first_own - 1
        return row if not shift else str(out.op("Add", row, out.constant(shift, np.int64)))

    def _count_of(self) -> int:
        how = self.stages.proposals
        return min(how.most, sum(min(level.most, len(level.anchors)) for level in how.levels))

    def _owner_and_label(self, place: str) -> tuple[str, str]:
        """Split `place = owner · (classes - 1) + label - 1`, as TensorRT divides: in floats."""
        out, foreground = self.out, self.stages.detections.classes - 1
        quotient = out.op("Div", out.op("Cast", place, to=_FLOAT), out.constant(foreground))
        owner = out.op("Cast", out.op("Floor", quotient), to=TensorProto.INT64)
        behind = out.op("Mul", owner, out.constant(foreground, np.int64))
        label = out.op("Add", out.op("Sub", place, behind), out.constant(1, np.int64))
        return owner, label

    def _pool(self, pool: Pool, boxes: str, count: int) -> str:
        """Return the pooled boxes as `[B · N, C, h, w]`."""
        features = [self.features[name] for name in pool.features]
        shape = self.graph.shape(pool.features[0])
        assert shape is not None
        size = (int(shape[1] or 0), pool.attributes["output_height"],
                pool.attributes["output_width"])  # fmt: skip
        boxes = least_sides(self.out, boxes, pool.attributes) if pool.widened else boxes
        (pooled,) = self.out.maskrt(
            "MultilevelRoIAlign", [boxes, *features],
            [("", _FLOAT, (self.batch, count, *size))], dict(pool.attributes),
        )  # fmt: skip
        return str(self.out.op("Reshape", pooled, self.out.ints(self.batch * count, *size)))

    def _masks(self, how: Masks, boxes: str, labels: str, count: str) -> str:
        """Return probabilities `[B, D, h, w]` of each detection's own class, zero where padded."""
        out, number = self.out, self._kept()
        label = out.op("Cast", out.op("Reshape", labels, out.ints(-1)), to=TensorProto.INT64)
        if self.stages.detections.first_label == 0:  # a padded detection's label is 0, too
            label = out.op("Max", out.op("Sub", label, out.constant(1, np.int64)),
                           out.constant(0, np.int64))  # fmt: skip
        logits = self._own_class(how, self._pool(how.pool, boxes, number), label)
        masks = out.op("Sigmoid", logits)
        real = out.op("Unsqueeze", self._below(count, number), out.ints(2, 3))
        return str(out.op("Mul", masks, out.op("Cast", real, to=_FLOAT)))

    def _kept(self) -> int:
        how = self.stages.detections
        return min(how.most, _MOST_CANDIDATES, self._count_of() * (how.classes - 1))

    def _own_class(self, how: Masks, pooled: str, label: str) -> str:
        """Return mask logits `[B, D, h, w]`; the last 1x1 convolution for one class alone."""
        out, number = self.out, self._kept()
        if how.shared:
            (one,) = copy_layers(
                self.graph, out, [how.logits], {how.pool.output: pooled}, stage="mask_head"
            )
            return self._by_picture(one, out.op("Slice", out.op("Shape", one), out.ints(2),
                                                out.ints(4)))  # fmt: skip
        last = self.graph.maker(how.logits)
        weight = None if last is None else self.graph.value(last.inputs[1])
        if last is None or last.op != "Conv" or weight is None or weight.shape[2:] != (1, 1):
            (all_classes,) = copy_layers(
                self.graph, out, [how.logits], {how.pool.output: pooled}, stage="mask_head"
            )
            chosen = out.op("GatherND", all_classes, out.op("Unsqueeze", label, out.ints(1)),
                            batch_dims=1)  # fmt: skip
            return self._by_picture(chosen, out.op("Slice", out.op("Shape", chosen), out.ints(1),
                                                   out.ints(3)))  # fmt: skip
        (hidden,) = copy_layers(
            self.graph, out, [last.inputs[0]], {how.pool.output: pooled}, stage="mask_head"
        )
        rows = out.op("Gather", out.constant(weight[:, :, 0, 0], name="mask_head.own_class"), label)
        flat = out.op("Reshape", hidden, out.ints(self.batch * number, weight.shape[1], -1))
        logits = out.op("MatMul", out.op("Unsqueeze", rows, out.ints(1)), flat)
        if len(last.inputs) > 2 and (bias := self.graph.value(last.inputs[2])) is not None:
            own = out.op("Gather", out.constant(bias), label)
            logits = out.op("Add", logits, out.op("Reshape", own, out.ints(-1, 1, 1)))
        sides = out.op("Slice", out.op("Shape", hidden), out.ints(2), out.ints(4))
        return self._by_picture(logits, sides)

    def _by_picture(self, rows: str, sides: str) -> str:
        """Return `rows` as `[B, D, *sides]`."""
        shape = self.out.op("Concat", self.out.ints(self.batch, self._kept()), sides, axis=0)
        return str(self.out.op("Reshape", rows, shape))

    def _in_picture(self, boxes: str) -> str:
        """Return the boxes in the pixels of the picture that the graph takes."""
        x, y = self.stages.box_scale
        if x == y == 1:
            return boxes
        return str(self.out.op("Mul", boxes, self.out.constant((x, y, x, y))))
