"""Small files of one pass, node by node as their exporters write the end of theirs.

Read from files of ultralytics 8.4.190 and 8.4.0 (YOLO11, YOLO26), of yolov5, of rfdetr 1.11.2 and
of libreyolo 1.6. Backbones are three convolutions; weights are drawn, and the last layers spread
their scores about the threshold, so that there are instances.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["SIZE", "detr_file", "yolo5_file", "yolo11_file", "yolo26_file"]

SIZE = (96, 128)
STRIDES = (8, 16, 32)
CLASSES, MASKS, WIDTH, BINS = 5, 8, 16, 16
_NAMES = "{0: 'ant', 1: 'bee', 2: 'cat', 3: 'dog', 4: 'elk'}"


class Draft:
    """Nodes and weights of a graph that is being written."""

    def __init__(self, seed: int = 0, opset: int = 18) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.random = np.random.default_rng(seed)
        self.opset = opset

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(
            helper.make_node(kind, inputs, names, name=f"/{kind}_{len(self.nodes)}", **attributes)
        )
        return names[0] if outputs == 1 else names

    def value(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(value, dtype)
        return name

    def ints(self, *values: int) -> str:
        return self.value(values, np.int64)

    def conv(self, x: str, width: int, out: int, size: int, stride: int = 1, gain: float = 1.5,
             bias: float = 0.0) -> str:  # fmt: skip
        fan = width * size * size
        weight = self.random.normal(0, gain / np.sqrt(fan), (out, width, size, size))
        return str(self.op(
            "Conv", x, self.value(weight), self.value(np.full(out, bias)), strides=[stride] * 2,
            pads=[size // 2] * 4, kernel_shape=[size] * 2,
        ))  # fmt: skip

    def silu(self, x: str) -> str:
        return str(self.op("Mul", x, self.op("Sigmoid", x)))

    def maps(self, picture: str) -> list[str]:
        """Return the maps of strides 8, 16 and 32."""
        x = self.silu(self.conv(picture, 3, WIDTH, 3, 2, gain=2.0))
        x = self.silu(self.conv(x, WIDTH, WIDTH, 3, 2, gain=1.7))
        found = []
        for _ in STRIDES:
            x = self.silu(self.conv(x, WIDTH, WIDTH, 3, 2, gain=1.7))
            found.append(x)
        return found

    def prototypes(self, x: str) -> str:
        """Return `[1, nm, H/4, W/4]` of the map of stride 8."""
        x = self.silu(self.conv(x, WIDTH, WIDTH, 3))
        up = self.random.normal(0, 0.3, (WIDTH, WIDTH, 2, 2))
        x = self.op("ConvTranspose", x, self.value(up), strides=[2, 2], kernel_shape=[2, 2])
        x = self.silu(self.conv(x, WIDTH, WIDTH, 3))
        return self.silu(self.conv(x, WIDTH, MASKS, 1, gain=4.0))

    def finish(
        self, outputs: Sequence[tuple[str, Sequence[int]]], metadata: dict[str, str],
        size: tuple[int, int] = SIZE, batch: int | str = 1,
    ) -> onnx.ModelProto:  # fmt: skip
        """Return the file, its tensors renamed to output0, output1, …"""
        nodes = list(self.nodes)
        for index, (name, _) in enumerate(outputs):
            nodes.append(helper.make_node("Identity", [name], [f"output{index}"]))
        infos = [
            helper.make_tensor_value_info(f"output{i}", TensorProto.FLOAT, [batch, *shape])
            for i, (_, shape) in enumerate(outputs)
        ]
        picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, *size])
        weights = [numpy_helper.from_array(v, n) for n, v in self.weights.items()]
        graph = helper.make_graph(nodes, "main_graph", [picture], infos, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 9
        for key, value in metadata.items():
            helper.set_model_props(model, {**_props(model), key: value})
        return model


def _props(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _places() -> int:
    return sum(SIZE[0] // s * (SIZE[1] // s) for s in STRIDES)


def _ultralytics(end2end: bool) -> dict[str, str]:
    return {
        "description": "Ultralytics model", "author": "Ultralytics", "version": "8.4.190",
        "task": "segment", "stride": "32", "names": _NAMES, "end2end": str(end2end),
    }  # fmt: skip


def yolo11_file(*, old: bool = False, softmax_scores: bool = False, shift: float = 0.5,
                corners: bool = False) -> onnx.ModelProto:  # fmt: skip
    """YOLOv8, 9, 11 and 12.

    Args:
        old: boxes and scores of a level joined before the levels are, as ultralytics 8.0 does.
        softmax_scores, shift, corners: near misses: another squashing, another place in the cell,
            and boxes as corners.
    """
    out = Draft()
    maps = out.maps("images")
    rows: dict[str, list[str]] = {"box": [], "score": [], "mask": []}
    for x in maps:
        rows["box"].append(out.conv(x, WIDTH, 4 * BINS, 1, gain=2.0))
        rows["score"].append(out.conv(x, WIDTH, CLASSES, 1, gain=3.0, bias=-2.0))
        rows["mask"].append(out.conv(x, WIDTH, MASKS, 1, gain=2.0))
    if old:
        joined = [
            out.op("Reshape", out.op("Concat", box, score, axis=1),
                   out.ints(1, 4 * BINS + CLASSES, -1))
            for box, score in zip(rows["box"], rows["score"], strict=True)
        ]  # fmt: skip
        both = out.op("Concat", *joined, axis=2)
        boxes, scores = out.op("Split", both, out.ints(4 * BINS, CLASSES), outputs=2, axis=1)
    else:
        boxes, scores = (_joined(out, rows[kind], c) for kind, c in
                         (("box", 4 * BINS), ("score", CLASSES)))  # fmt: skip
    mixed = _joined(out, rows["mask"], MASKS)
    x = out.op("Reshape", boxes, out.ints(1, 4, BINS, _places()))
    x = out.op("Softmax", out.op("Transpose", x, perm=[0, 2, 1, 3]), axis=1)
    mean = out.value(np.arange(BINS).reshape(1, BINS, 1, 1))
    x = out.op("Reshape", out.op("Conv", x, mean, kernel_shape=[1, 1]), out.ints(1, 4, _places()))
    decoded = _by_distances(out, x, shift, corners=corners)
    squashed = out.op("Softmax", scores, axis=1) if softmax_scores else out.op("Sigmoid", scores)
    predictions = out.op("Concat", decoded, squashed, mixed, axis=1)
    sides = (MASKS, SIZE[0] // 4, SIZE[1] // 4)
    return out.finish(
        [(predictions, (4 + CLASSES + MASKS, _places())), (out.prototypes(maps[0]), sides)],
        _ultralytics(False),
    )


def _joined(out: Draft, maps: Sequence[str], channels: int) -> str:
    rows = [out.op("Reshape", x, out.ints(1, channels, -1)) for x in maps]
    return str(out.op("Concat", *rows, axis=2))


def _by_distances(out: Draft, distances: str, shift: float = 0.5, *, corners: bool) -> str:
    """Decode as `Shape`, `Slice`, `Sub`, `Add`, `Concat` and a product with strides."""
    centres, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: SIZE[0] // stride, : SIZE[1] // stride] + shift
        centres.append(np.stack([x.ravel(), y.ravel()]))
        strides.append(np.full(x.size, stride))
    anchor = out.value(np.concatenate(centres, 1)[None])
    count = out.op("Gather", out.op("Shape", distances), out.value(1, np.int64), axis=0)
    half = out.op("Div", out.op("Add", count, out.ints(1)), out.ints(2))
    low = out.op("Slice", distances, out.ints(0), half, out.ints(1))
    high = out.op("Slice", distances, half, out.op("Mul", half, out.ints(2)), out.ints(1))
    near, far = out.op("Sub", anchor, low), out.op("Add", anchor, high)
    if corners:
        parts = (near, far)
    else:
        middle = out.op("Div", out.op("Add", near, far), out.value(2.0))
        parts = (middle, out.op("Sub", far, near))
    both = out.op("Concat", *parts, axis=1)
    return str(out.op("Mul", both, out.value(np.concatenate(strides)[None, None])))


def yolo26_file(*, chosen: int = 40, smallest: bool = False) -> onnx.ModelProto:
    """YOLO26 that ends with its own choice.

    Args:
        chosen: how many.
        smallest: a near miss: it chooses the lowest scores.
    """
    out = Draft(seed=3)
    maps = out.maps("images")
    boxes = _joined(out, [out.conv(x, WIDTH, 4, 1, gain=1.0, bias=2.0) for x in maps], 4)
    scores = _joined(out, [out.conv(x, WIDTH, CLASSES, 1, gain=3.0, bias=-1.0) for x in maps],
                     CLASSES)  # fmt: skip
    mixed = _joined(out, [out.conv(x, WIDTH, MASKS, 1, gain=2.0) for x in maps], MASKS)
    decoded = _by_distances(out, boxes, corners=True)
    rows = out.op("Concat", decoded, out.op("Sigmoid", scores), mixed, axis=1)
    rows = out.op("Transpose", rows, perm=[0, 2, 1])
    ends = [out.ints(v) for v in (0, 4, 4 + CLASSES, 4 + CLASSES + MASKS)]
    box, score, mask = (
        out.op("Slice", rows, low, high, out.ints(2)) for low, high in itertools.pairwise(ends)
    )
    best = out.op("ReduceMax", score, out.ints(-1), keepdims=0)
    _, place = out.op("TopK", best, out.ints(chosen), outputs=2, axis=1, largest=1 - smallest)
    place = out.op("Unsqueeze", place, out.ints(-1))
    score = out.op("GatherElements", score, _wide(out, place, CLASSES, chosen), axis=1)
    flat = out.op("Flatten", score, axis=1)
    top, index = out.op("TopK", flat, out.ints(chosen), outputs=2, axis=1)
    label = out.op("Mod", index, out.value(CLASSES, np.int64))
    row = out.op("Cast", out.op("Div", index, out.value(CLASSES, np.int64)), to=TensorProto.INT64)
    row = out.op("Unsqueeze", row, out.ints(-1))
    place = out.op("GatherElements", place, row, axis=1)
    parts = [
        out.op("GatherElements", box, _wide(out, place, 4, chosen), axis=1),
        out.op("Unsqueeze", top, out.ints(-1)),
        out.op("Cast", out.op("Unsqueeze", label, out.ints(-1)), to=TensorProto.FLOAT),
        out.op("GatherElements", mask, _wide(out, place, MASKS, chosen), axis=1),
    ]
    sides = (MASKS, SIZE[0] // 4, SIZE[1] // 4)
    return out.finish(
        [(out.op("Concat", *parts, axis=-1), (chosen, 6 + MASKS)),
         (out.prototypes(maps[0]), sides)],
        _ultralytics(True),
    )  # fmt: skip


def _wide(out: Draft, place: str, width: int, count: int) -> str:
    return str(out.op("Expand", place, out.ints(1, count, width)))


def yolo5_file(*, in_place: bool = False, exponential: bool = False) -> onnx.ModelProto:
    """YOLOv5: anchors, and a score of the place itself.

    Args:
        in_place: `y[..., :n] = …`, which the exporter writes as ScatterND, as v7-seg has it.
        exponential: a near miss: sizes by exp, as YOLOv3 has them.
    """
    out = Draft(seed=5)
    maps = out.maps("images")
    anchors = ((12, 16, 30), (40, 52, 33), (60, 80, 50))
    number, wide = 5 + CLASSES + MASKS, 5 + CLASSES
    rows = []
    for x, stride, sizes in zip(maps, STRIDES, anchors, strict=True):
        h, w = SIZE[0] // stride, SIZE[1] // stride
        x = out.conv(x, WIDTH, 3 * number, 1, gain=2.5)
        x = out.op("Reshape", x, out.ints(1, 3, number, h, w))
        x = out.op("Transpose", x, perm=[0, 1, 3, 4, 2])
        cut = out.op("Slice", x, out.ints(0), out.ints(wide), out.ints(4))
        squashed = out.op("Sigmoid", cut)
        y, xs = np.mgrid[:h, :w] - 0.5
        grid = out.value(np.stack([xs, y], -1)[None, None])
        size = out.value(np.array(sizes).repeat(2).reshape(1, 3, 1, 1, 2))
        xy, wh, score = out.op("Split", squashed, out.ints(2, 2, 1 + CLASSES), outputs=3, axis=4)
        xy = out.op("Mul", out.op("Add", out.op("Mul", xy, out.value(2.0)), grid),
                    out.value(float(stride)))  # fmt: skip
        if exponential:
            wh = out.op("Mul", out.op("Exp", wh), size)
        else:
            twice = out.op("Mul", wh, out.value(2.0))
            wh = out.op("Mul", out.op("Pow", twice, out.value(2.0)), size)
        decoded = out.op("Concat", xy, wh, score, axis=4)
        if in_place:
            places = np.stack(np.meshgrid(*(np.arange(n) for n in (1, 3, h, w, wide)),
                                          indexing="ij"), -1)  # fmt: skip
            x = out.op("ScatterND", x, out.value(places, np.int64), decoded)
        else:
            rest = out.op("Slice", x, out.ints(wide), out.ints(number), out.ints(4))
            x = out.op("Concat", decoded, rest, axis=4)
        rows.append(out.op("Reshape", x, out.ints(1, 3 * h * w, number)))
    sides = (MASKS, SIZE[0] // 4, SIZE[1] // 4)
    predictions = out.op("Concat", *rows, axis=1)
    return out.finish(
        [(predictions, (3 * _places(), number)), (out.prototypes(maps[0]), sides)],
        {"stride": "32", "names": _NAMES},
    )


def detr_file(
    kind: str = "rf_detr",
    *,
    queries: int = 12,
    batch: int | str = 1,
    corners: bool = False,
    picked: bool = False,
    for_one: bool = False,
) -> onnx.ModelProto:
    """The end of a DETR with masks, over queries that a picture's features are mixed into.

    Args:
        kind: "rf_detr": codes of references by exp, masks' logits, no metadata; "d_fine": means of
            distributions, masks' probabilities; "ec": the same with logits.
        queries: Q.
        batch: pictures a call, or a name for any number.
        corners: a near miss: boxes as corners.
        picked: queries are picked from a constant of one picture by the best places, as libreyolo
            picks anchors.
        for_one: a near miss: features are reshaped to those of one picture, whatever `batch` says.
    """
    out = Draft(seed=7, opset=17)
    x = out.conv("images", 3, WIDTH, 5, 4, gain=6.0)
    area = SIZE[0] // 4 * (SIZE[1] // 4)
    features = out.op("Reshape", x, out.ints(1 if for_one else -1, WIDTH, area))
    own = out.value(out.random.normal(0, 1.0, (1, queries, WIDTH)))
    if picked:
        best = out.op("ReduceMax", features, axes=[1], keepdims=0)
        _, places = out.op("TopK", best, out.ints(queries), outputs=2, axis=1)
        anchors = out.value(out.random.normal(0, 1.0, (1, area, WIDTH)))
        own = out.op("GatherElements", anchors, _wide(
            out, out.op("Unsqueeze", places, out.ints(-1)), WIDTH, queries), axis=1)  # fmt: skip
    weights = out.op("Softmax", out.op("MatMul", own, features), axis=-1)
    tokens = out.op("Transpose", features, perm=[0, 2, 1])
    x = out.op("Add", out.op("MatMul", weights, tokens), own)
    gain, shift = out.value(np.ones(WIDTH)), out.value(np.zeros(WIDTH))
    x = out.op("LayerNormalization", x, gain, shift, axis=-1)
    classes = 91 if kind == "rf_detr" else CLASSES

    def linear(data: str, width: int, spread: float) -> str:
        weight = out.random.normal(0, spread, (WIDTH, width))
        made = out.op("MatMul", data, out.value(weight))
        return str(out.op("Add", made, out.value(np.zeros(width))))

    logits = linear(x, classes, 0.5)
    place = out.random.uniform(0.3, 0.7, (1, queries, 2))
    size = out.random.uniform(0.2, 0.5, (1, queries, 2))
    reference = np.concatenate([place, size], -1)
    if kind == "rf_detr":
        codes = linear(x, 4, 0.1)
        near, far = (
            out.op("Slice", codes, out.ints(a), out.ints(b), out.ints(2)) for a, b in
            ((0, 2), (2, 4))
        )  # fmt: skip
        middle = out.op("Add", out.op("Mul", near, out.value(size)), out.value(place))
        extent = out.op("Mul", out.op("Exp", far), out.value(size))
    else:
        distributions = out.op("Reshape", linear(x, 4 * 9, 0.4), out.ints(-1, 9))
        project = out.value(np.linspace(-0.5, 0.5, 9).reshape(9, 1))
        mean = out.op("MatMul", out.op("Softmax", distributions, axis=-1), project)
        codes = out.op("Reshape", mean, out.ints(-1, queries, 4))
        start = out.value(np.log(reference / (1 - reference)))
        codes = out.op("Sigmoid", out.op("Add", codes, start))
        middle, extent = (
            out.op("Slice", codes, out.ints(a), out.ints(b), out.ints(2)) for a, b in
            ((0, 2), (2, 4))
        )  # fmt: skip
    if corners:
        half = out.op("Mul", extent, out.value(0.5))
        parts = out.op("Sub", middle, half), out.op("Add", middle, half)
        boxes = out.op("Concat", *parts, axis=-1)
    else:
        boxes = out.op("Concat", middle, extent, axis=-1)
    mixed = out.op("MatMul", linear(x, WIDTH, 0.5), features)
    sides = (queries, SIZE[0] // 4, SIZE[1] // 4)
    masks = out.op("Reshape", mixed, out.ints(-1, *sides))
    masks = out.op("Sigmoid", masks) if kind == "d_fine" else masks
    said = {
        "rf_detr": {},
        "d_fine": {"libreyolo_version": "1.6.0", "model_family": "dfine", "task": "segment",
                   "names": '{"0": "ant", "1": "bee", "2": "cat", "3": "dog", "4": "elk"}'},
        "ec": {"libreyolo_version": "1.6.0", "model_family": "ec", "task": "segment"},
    }  # fmt: skip
    return out.finish(
        [(boxes, (queries, 4)), (logits, (queries, classes)), (masks, sides)], said[kind],
        batch=batch,
    )  # fmt: skip
