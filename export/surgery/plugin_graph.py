"""A detector that was already rewritten for TensorRT's plugins: recognised, and written anew.

    picture → backbone → suppression → pooling → heads → suppression → pooling → masks

All nodes but the plugins are copied as they are, and each plugin becomes operators of maskrt. What
the last suppression gives are the detections; whether its boxes are in pixels or in parts of the
picture is told by what a pooling does with boxes.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from .declined import Declined, Notes
from .emitter import Emitter
from .graph import Graph, Node
from .layers import copy_layers
from .normalisation import Normalisation
from .plugin_nodes import rewrite_plugin
from .plugin_shapes import FOREIGN, KNOWN, NMS, POOLS, kind, remedy
from .preprocess import Preprocessing, read_preprocessing

__all__ = ["PluginDetector", "has_plugins", "plugin_detector", "write_plugin_detector"]

RULE = "plugin"
_FLOAT, _INT32 = int(TensorProto.FLOAT), int(TensorProto.INT32)
_BACKGROUND = {
    "EfficientNMS_TRT": "background_class", "BatchedNMS_TRT": "backgroundLabelId",
    "BatchedNMSDynamic_TRT": "backgroundLabelId", "TRTBatchedNMS": "background_label_id",
}  # fmt: skip
_BESIDE = ("Softmax", "Sigmoid", "Split", "Unsqueeze", "Squeeze", "Expand", "Tile", "Clip", "TopK",
           "ArgMax")  # fmt: skip


@dataclass(frozen=True)
class PluginDetector:
    """A detector of plugins.

    Attributes:
        plugins: in topological order.
        last: the suppression whose outputs are the graph's.
        masks: the output of masks `[1, D, h, w]`, or None.
        normalised: whether boxes are parts of the picture, and not pixels.
        classes: background included.
        first_label: what the graph calls the first foreground class.
    """

    preprocessing: Preprocessing
    plugins: tuple[Node, ...]
    last: Node
    masks: str | None
    normalised: bool
    classes: int
    first_label: int


def has_plugins(graph: Graph) -> bool:
    """Whether surgery finds a TensorRT plugin in `graph`."""
    return any(kind(node) in (*KNOWN, *FOREIGN) for node in graph.nodes)


def plugin_detector(
    graph: Graph, notes: Notes, outside: Normalisation | None = None
) -> PluginDetector:
    """Return the detector of `graph`.

    Raises:
        Declined: a check does not hold.
    """
    for node in graph.nodes:
        if kind(node) in FOREIGN or ("::" in node.op and kind(node) not in KNOWN):
            raise Declined(RULE, remedy(node) or "no rule maps it to an operator of maskrt: give "
                           "the graph from before that step", node)  # fmt: skip
    plugins = [node for node in graph.nodes if kind(node) in KNOWN]
    preprocessing = read_preprocessing(graph, outside)
    notes.add("preprocessing", str(preprocessing), preprocessing.nodes)
    alike: dict[str, list[Node]] = {}
    for node in plugins:
        alike.setdefault(_words(node), []).append(node)
    for words, nodes in alike.items():
        notes.add("plugin", words, nodes)
    pools = [n for n in plugins if kind(n) in POOLS]
    if not pools:
        raise Declined(RULE, "no RoIAlign takes its boxes, so this is no two-stage detector",
                       plugins[-1])  # fmt: skip
    last = _last(graph, plugins)
    normalised = _normalised(graph, pools[0], preprocessing)
    background = int(last.attributes.get(_BACKGROUND[kind(last)], -1))
    shape = graph.shape(last.inputs[1])
    if shape is None or len(shape) != 3 or shape[2] is None or background > 0:
        raise Declined(RULE, f"it has classes {shape} and the background {background}", last)
    foreground = shape[2] - (background == 0)
    return PluginDetector(
        preprocessing, tuple(plugins), last, _masks(graph, last), normalised, foreground + 1,
        1 if background == 0 else 0,
    )  # fmt: skip


def _words(node: Node) -> str:
    shown = {k: v for k, v in node.attributes.items() if not k.startswith("plugin_")}
    return " ".join([kind(node), ", ".join(f"{k} {v}" for k, v in sorted(shown.items()))]).strip()


def _last(graph: Graph, plugins: list[Node]) -> Node:
    found = [n for n in plugins if kind(n) in NMS and set(_answers(n)) <= {*graph.outputs}]
    if len(found) != 1:
        where = found[-1] if found else next((n for n in plugins if kind(n) in NMS), plugins[0])
        raise Declined(RULE, f"{len(found)} suppressions have boxes, scores and classes among the "
                       "outputs, and one is expected", where)  # fmt: skip
    return found[0]


def _answers(node: Node) -> tuple[str, ...]:
    """Return the outputs that are detections: count, boxes, scores, labels, or dets and labels."""
    return node.outputs[:2] if kind(node) == "TRTBatchedNMS" else node.outputs[:4]


def _masks(graph: Graph, last: Node) -> str | None:
    rest = [o for o in graph.outputs if o not in last.outputs and graph.value(o) is None]
    if not rest:
        return None
    shape, most = graph.shape(rest[0]), (graph.shape(last.outputs[1]) or (None, None))[1]
    if len(rest) > 1 or shape is None or len(shape) != 4 or shape[:2] != (1, most):
        raise Declined(
            RULE, f"besides detections there are {len(rest)} outputs, of the shape {shape}, and "
            f"masks [1, {most}, h, w] are expected", graph.maker(rest[0]),
        )  # fmt: skip
    return rest[0]


def _normalised(graph: Graph, pool: Node, preprocessing: Preprocessing) -> bool:
    if kind(pool) == "PyramidROIAlign_TRT":
        return not pool.attributes.get("roi_coords_absolute", 1)
    mmdeploys = kind(pool) == "MMCVMultiLevelRoiAlign"
    shape = graph.shape(pool.inputs[1 if mmdeploys else 0])
    if shape is None or shape[2] is None:
        raise Declined(RULE, "the size of its feature map is not static", pool)
    scale, expected = float(pool.attributes.get("spatial_scale", 1.0)), preprocessing.padded[0]
    if mmdeploys:
        scale = 1 / float(pool.attributes["featmap_strides"][0])
    if not 0.9 < scale * expected / shape[2] < 1.1:
        raise Declined(RULE, f"spatial_scale is {scale:g}, and its map has {shape[2]} rows of "
                       f"{expected}", pool)  # fmt: skip
    return False


def write_plugin_detector(graph: Graph, found: PluginDetector, batch: int = 1) -> onnx.ModelProto:
    """Return the canonical model of `found`, which was recognised in `graph`.

    Raises:
        Declined: an attribute asks what no operator of maskrt does, or `batch` is not 1.
    """
    if batch != 1:
        raise Declined(RULE, f"plugins are rewritten for one picture a call, and batch is {batch}")
    return _Writer(graph, found).write()


class _Writer:
    def __init__(self, graph: Graph, found: PluginDetector) -> None:
        self.graph, self.found, self.out = graph, found, Emitter()
        self.known: dict[str, str] = {found.preprocessing.output: self._picture()}
        self.last: list[str] = []  # what its outputs became

    def write(self) -> onnx.ModelProto:
        out, found = self.out, self.found
        stages = iter(["backbone", "box_head", "mask_head"])
        stage = next(stages)
        for node in found.plugins:
            self._plugin(node, stage)
            stage = next(stages, stage) if kind(node) in NMS else stage
        boxes, scores, labels, count, real = self._detections()
        outputs = [("boxes", boxes, _FLOAT), ("scores", scores, _FLOAT), ("labels", labels, _INT32)]
        if found.masks is not None:
            (masks,) = self._copied([found.masks], stage)
            wide = out.op("Unsqueeze", real, out.ints(2, 3))
            outputs.append(("masks", out.op("Mul", masks, out.op("Cast", wide, to=_FLOAT)), _FLOAT))
        outputs.append(("count", count, _INT32))
        height, width = found.preprocessing.size
        images = helper.make_tensor_value_info("images", TensorProto.UINT8, (1, height, width, 3))
        return out.finish([images], outputs)

    def _picture(self) -> str:
        return self.found.preprocessing.written(self.out, 1)

    def _copied(self, names: list[str], stage: str) -> list[str]:
        return copy_layers(self.graph, self.out, names, self.known, stage=stage, more=_BESIDE)

    def _plugin(self, node: Node, stage: str) -> None:
        shapes = [self.graph.shape(name) for name in node.inputs]
        static = [tuple(int(s or 0) for s in shape or ()) for shape in shapes]
        if any(shape is None or None in shape for shape in shapes):
            raise Declined(RULE, "the shapes of its inputs are not static", node)
        if kind(node) == "ROIAlign_TRT":
            self._check_one_picture(node)
        elif kind(node) != "MMCVMultiLevelRoiAlign" and static[0][0] != 1:
            raise Declined(RULE, f"the graph is for {static[0][0]} pictures a call, and one alone "
                           "is rewritten", node)  # fmt: skip
        read = node.inputs[:2] if kind(node) == "ROIAlign_TRT" else node.inputs
        inputs = self._copied(list(read), stage)
        picture = self.found.preprocessing.padded
        made = rewrite_plugin(self.out, node, inputs, static, picture)
        self.known.update(zip(node.outputs, made, strict=False))
        if node is self.found.last:
            self.last = made

    def _check_one_picture(self, node: Node) -> None:
        """Decline if the numbers of the pictures of its boxes may be others than 0."""
        pictures = self.graph.value(node.inputs[2])
        if pictures is None or pictures.any():
            raise Declined(RULE, "the pictures of its boxes are not all the first one", node)

    def _detections(self) -> tuple[str, str, str, str, str]:
        """Return boxes in pixels, scores, labels from 1 on, the count, and which rows are real."""
        out, found = self.out, self.found
        if kind(found.last) == "TRTBatchedNMS":
            dets, labels, count = self.last
            boxes = out.slice_last(dets, 0, 4)
            scores = out.op("Squeeze", out.slice_last(dets, 4, 5), out.ints(2))
        else:
            count, boxes, scores, labels = self.last
        most = (self.graph.shape(found.last.outputs[1]) or (1, 0))[1]
        count = out.op("Reshape", count, out.ints(1))
        wide = out.op("Cast", out.op("Unsqueeze", count, out.ints(1)), to=TensorProto.INT64)
        real = out.op("Less", out.constant(np.arange(most or 0), np.int64), wide)
        labels = out.op("Cast", labels, to=_INT32)
        if found.first_label == 0:
            labels = out.op("Add", labels, out.op("Cast", real, to=_INT32))
        height, width = found.preprocessing.size
        if found.normalised:
            boxes = out.op("Mul", boxes, out.constant((width, height, width, height)))
        return boxes, scores, labels, count, real
