"""TensorRT's plugins as operators of maskrt, a function a plugin.

    EfficientNMS_TRT      candidates with score >= threshold, the best 4096, decoded; greedy
                          suppression of IoU >= threshold, per class or not
    BatchedNMS_TRT        score > threshold, the best topK of each class, suppression of IoU >
                          threshold per class, the best keepTopK, clipped to 0..1
    ROIAlign_TRT          ONNX's RoiAlign
    PyramidROIAlign_TRT   boxes clipped to the picture; level 2 + [area > s²/4] + [area > s²] +
                          [area > 4 s²], s = fpn_scale; RoIAlign there
    ResizeNearest_TRT     nearest pixel, rounded down
    TRTBatchedNMS         mmdeploy's BatchedNMS: boxes and scores side by side, labels of the
                          exported type int64, and no pixel added to a box of pixels
    GatherTopk            mmdeploy's choice of rows: out[b, k] = data[b, index[b, k]]
    MMCVMultiLevelRoiAlign  mmdeploy's: level = clip(floor(log2(side / finest_scale + 1e-6)))

A strict comparison stands for the other kind by the next float. What an attribute asks beyond this
is refused. Source: `plugin/` in NVIDIA/TensorRT, the README and the kernel of each, and
`csrc/mmdeploy/backend_ops/tensorrt/` in open-mmlab/mmdeploy.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from .declined import Declined
from .emitter import Emitter
from .graph import Node
from .plugin_shapes import kind

__all__ = ["rewrite_plugin"]

RULE = "plugin"
_MOST = 4096  # candidates that enter a suppression
_OUT = -1e30  # the score of no candidate
_FLOAT, _INT32, _INT64 = (int(t) for t in (TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64))
_Shape = tuple[int, ...]


def rewrite_plugin(
    out: Emitter, node: Node, inputs: Sequence[str], shapes: Sequence[_Shape], picture: _Shape
) -> list[str]:
    """Write what `node` does; return its outputs.

    Args:
        out: where to.
        node: one of `plugin_shapes.KNOWN`.
        inputs: what its inputs are called there.
        shapes: theirs, static.
        picture: `(height, width)` that the network sees.
    """
    known: dict[str, Callable[..., list[str]]] = {
        "EfficientNMS_TRT": _efficient_nms, "BatchedNMS_TRT": _batched_nms,
        "BatchedNMSDynamic_TRT": _batched_nms, "ROIAlign_TRT": _roialign,
        "PyramidROIAlign_TRT": _pyramid, "ResizeNearest_TRT": _resize,
        "TRTBatchedNMS": _mmdeploy_nms, "MMCVMultiLevelRoiAlign": _mmdeploy_pyramid,
        "GatherTopk": _gather_topk,
    }  # fmt: skip
    return known[kind(node)](out, node, inputs, shapes, picture)


def _needed(node: Node, name: str) -> Any:
    if name not in node.attributes:
        raise Declined(RULE, f"the attribute {name} is missing", node)
    return node.attributes[name]


def _only(node: Node, name: str, wanted: Any, why: str) -> None:
    """Decline unless attribute `name` is `wanted`, or absent where that is the default."""
    if int(node.attributes.get(name, wanted)) != wanted:
        raise Declined(RULE, f"{name} is {int(node.attributes[name])}, {why}", node)


def _below(value: float) -> float:
    """Return the float32 next below: `x > _below(v)` is `x >= v`."""
    return float(np.nextafter(np.float32(value), np.float32(-np.inf)))


def _efficient_nms(
    out: Emitter, node: Node, x: Sequence[str], shapes: Sequence[_Shape], _: _Shape
) -> list[str]:
    a, (_batch, count, classes) = node.attributes, shapes[1]
    coding, most = int(a.get("box_coding", 0)), int(_needed(node, "max_output_boxes"))
    if coding not in (0, 1) or (len(x) > 2 and coding != 1):
        raise Declined(
            RULE, f"box_coding is {coding} with {len(x)} inputs, which no rule maps", node
        )
    scores = _without(out, x[1], int(a.get("background_class", -1)), classes)
    flat = out.op("Reshape", scores, out.ints(1, count * classes))
    top = min(_MOST, count * classes)
    best, place = out.op("TopK", flat, out.ints(top), outputs=2, axis=-1)
    if a.get("score_activation", 0):
        best = out.op("Where", out.op("Less", best, out.constant(_OUT / 2)), best,
                      out.op("Sigmoid", best))  # fmt: skip
    owner, label = _split(out, place, classes)
    boxes = _boxes(out, x[0], shapes[0], owner, place, classes, top)
    if len(x) > 2:
        start = _rows(out, x[2], owner, top)
        boxes = _decoded(out, boxes, start)
    boxes = _corners(out, boxes) if coding == 1 else boxes
    return _suppressed(
        out, (boxes, best, label), most, top, iou=_below(float(_needed(node, "iou_threshold"))),
        score=_below(float(_needed(node, "score_threshold"))),
        agnostic=bool(a.get("class_agnostic", 0)),
    )  # fmt: skip


def _batched_nms(
    out: Emitter, node: Node, x: Sequence[str], shapes: Sequence[_Shape], _: _Shape
) -> list[str]:
    a = node.attributes
    _only(node, "isNormalized", 1, "so boxes are a pixel larger than here")
    _only(node, "caffeSemantics", 1, "which no rule maps")
    count, boxes, scores, labels = _best_of_each(
        out, x, shapes, int(a.get("backgroundLabelId", -1)), int(_needed(node, "topK")),
        int(_needed(node, "keepTopK")), float(_needed(node, "iouThreshold")),
        float(_needed(node, "scoreThreshold")),
    )  # fmt: skip
    if a.get("clipBoxes", 1):
        boxes = out.op("Clip", boxes, out.constant(0.0), out.constant(1.0))
    return [count, boxes, scores, out.op("Cast", labels, to=_FLOAT)]


def _mmdeploy_nms(
    out: Emitter, node: Node, x: Sequence[str], shapes: Sequence[_Shape], _: _Shape
) -> list[str]:
    """Return dets and labels, and behind them, for the canonical outputs, the count.

    The plugin gives rows of no detection the label -1, which masks are then chosen by; here it is
    0, as an index that wraps around is not everywhere one.
    """
    a, most = node.attributes, int(_needed(node, "keep_topk"))
    _only(node, "clip_boxes", 0, "and boxes in pixels are not parts of a picture")
    _only(node, "return_index", 0, "and which candidates were kept is not told")
    top = int(_needed(node, "topk"))
    count, boxes, scores, labels = _best_of_each(
        out, x, shapes, int(a.get("background_label_id", -1)), top if top > 0 else shapes[1][1],
        most, float(_needed(node, "iou_threshold")), float(_needed(node, "score_threshold")),
    )  # fmt: skip
    dets = out.op("Concat", boxes, out.op("Unsqueeze", scores, out.ints(2)), axis=2)
    return [dets, out.op("Cast", labels, to=_INT64), count]


def _gather_topk(
    out: Emitter, node: Node, x: Sequence[str], shapes: Sequence[_Shape], _: _Shape
) -> list[str]:
    if len(shapes[1]) != 2 or shapes[0][0] != 1 or shapes[1][0] != 1:
        raise Declined(RULE, f"it takes rows {shapes[1]} of {shapes[0]}, and rows of one picture "
                       "alone are rewritten", node)  # fmt: skip
    index = out.op("Reshape", x[1], out.ints(shapes[1][1]))
    return [out.op("Gather", x[0], index, axis=1)]


def _best_of_each(
    out: Emitter, x: Sequence[str], shapes: Sequence[_Shape], background: int, each: int, most: int,
    iou: float, score: float,
) -> list[str]:  # fmt: skip
    """Suppress the best `each` of each class, and return the best `most` of all that is left."""
    _batch, count, classes = shapes[1]
    each = min(each, count)
    turned = out.op("Transpose", _without(out, x[1], background, classes), perm=[0, 2, 1])
    best, row = out.op("TopK", turned, out.ints(each), outputs=2, axis=-1)
    numbers = out.constant(np.arange(classes).reshape(1, classes, 1), np.int64)
    places = out.op("Add", out.op("Mul", row, out.constant(classes, np.int64)), numbers)
    top = min(_MOST, each * classes)
    best, pick = out.op("TopK", out.op("Reshape", best, out.ints(1, each * classes)),
                        out.ints(top), outputs=2, axis=-1)  # fmt: skip
    place = out.op("GatherElements", out.op("Reshape", places, out.ints(1, each * classes)), pick,
                   axis=1)  # fmt: skip
    owner, label = _split(out, place, classes)
    boxes = _boxes(out, x[0], shapes[0], owner, place, classes, top)
    return _suppressed(out, (boxes, best, label), most, top, iou=iou, score=score, agnostic=False)


def _without(out: Emitter, scores: str, background: int, classes: int) -> str:
    """Return `scores [1, N, C]` with which the background is no candidate."""
    if not 0 <= background < classes:
        return scores
    column = np.arange(classes).reshape(1, 1, classes) == background
    return str(out.op("Where", out.constant(column, bool), out.constant(_OUT), scores))


def _split(out: Emitter, place: str, classes: int) -> tuple[str, str]:
    """Return row and class of `place = row · classes + class`, as TensorRT divides: in floats."""
    if classes == 1:
        return place, str(out.op("Mul", place, out.constant(0, np.int64)))
    quotient = out.op("Div", out.op("Cast", place, to=_FLOAT), out.constant(classes))
    row = out.op("Cast", out.op("Floor", quotient), to=_INT64)
    return row, str(out.op("Sub", place, out.op("Mul", row, out.constant(classes, np.int64))))


def _boxes(
    out: Emitter, boxes: str, shape: _Shape, owner: str, place: str, classes: int, top: int
) -> str:
    """Return the boxes `[1, K, 4]` of candidates, each class's own if there are such."""
    own = len(shape) == 4 and shape[2] == classes > 1
    flat = out.op("Reshape", boxes, out.ints(1, -1, 4)) if len(shape) == 4 else boxes
    return _rows(out, flat, place if own else owner, top)


def _rows(out: Emitter, data: str, place: str, count: int) -> str:
    wide = out.op("Expand", out.op("Unsqueeze", place, out.ints(2)), out.ints(1, count, 4))
    return str(out.op("GatherElements", data, wide, axis=1))


def _decoded(out: Emitter, codes: str, boxes: str) -> str:
    """Return centre and size of `boxes` moved and scaled by `codes`, without any limit."""
    near, far = out.slice_last(boxes, 0, 2), out.slice_last(boxes, 2, 4)
    centre = out.op("Add", out.op("Mul", out.slice_last(codes, 0, 2), far), near)
    size = out.op("Mul", out.op("Exp", out.slice_last(codes, 2, 4)), far)
    return str(out.op("Concat", centre, size, axis=-1))


def _corners(out: Emitter, boxes: str) -> str:
    centre = out.slice_last(boxes, 0, 2)
    half = out.op("Mul", out.slice_last(boxes, 2, 4), out.constant(0.5))
    return str(out.op("Concat", out.op("Sub", centre, half), out.op("Add", centre, half), axis=-1))


def _suppressed(
    out: Emitter, candidates: tuple[str, str, str], most: int, top: int, *, iou: float,
    score: float, agnostic: bool,
) -> list[str]:  # fmt: skip
    """Return count `[1, 1]`, boxes, scores and labels of `most` rows."""
    boxes, scores, labels = candidates
    kept = min(most, top)
    shapes = [(_FLOAT, (1, kept, 4)), (_FLOAT, (1, kept)), (_INT32, (1, kept)),
              (_INT32, (1, kept)), (_INT32, (1,))]  # fmt: skip
    found = out.maskrt(
        "BatchedNMS", [boxes, scores, out.op("Cast", labels, to=_INT32)],
        [("", t, s) for t, s in shapes],
        {"iou_threshold": max(iou, 0.0), "score_threshold": score, "max_outputs": kept,
         "class_agnostic": int(agnostic)},
    )  # fmt: skip
    rows = found[:3]
    if kept < most:
        rows = [
            out.op("Pad", row, out.ints(*[0] * rank, 0, most - kept, *[0] * (rank - 2)))
            for row, rank in zip(rows, (3, 2, 2), strict=True)
        ]
    return [out.op("Reshape", found[4], out.ints(1, 1)), *rows]


def _roialign(
    out: Emitter, node: Node, x: Sequence[str], shapes: Sequence[_Shape], _: _Shape
) -> list[str]:
    a = node.attributes
    _only(node, "mode", 1, "so it takes the maximum of weighted corners, as no operator of ours")
    (_batch, channels, _h, _w), (count, _four) = shapes[0], shapes[1]
    bins = (int(a.get("output_height", 1)), int(a.get("output_width", 1)))
    boxes = out.op("Reshape", x[1], out.ints(1, count, 4))
    (pooled,) = out.maskrt(
        "MultilevelRoIAlign", [boxes, x[0]], [("", _FLOAT, (1, count, channels, *bins))],
        _pooling(bins, int(a.get("sampling_ratio", 0)),
                 int(a.get("coordinate_transformation_mode", 1)),
                 (float(a.get("spatial_scale", 1.0)),)),
    )  # fmt: skip
    return [out.op("Reshape", pooled, out.ints(count, channels, *bins))]


def _pooling(
    bins: tuple[int, int], ratio: int, aligned: int, scales: tuple[float, ...], fpn: float = 224.0,
    first: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Return the attributes of MultilevelRoIAlign; a box of `fpn / 2` sides still is of level 2."""
    return {
        "output_height": bins[0], "output_width": bins[1], "sampling_ratio": ratio,
        "aligned": aligned, "mode": "avg", "spatial_scales": scales, "canonical_scale": fpn,
        "canonical_level": 4, "level_epsilon": -1e-6, "min_level": first,
    }  # fmt: skip


def _pyramid(
    out: Emitter, node: Node, x: Sequence[str], shapes: Sequence[_Shape], picture: _Shape
) -> list[str]:
    a, (_batch, count, _four), maps = node.attributes, shapes[0], shapes[1:]
    _only(node, "roi_coords_transform", 2, "and only 2 (half pixel) is what RoIAlign does")
    _only(node, "roi_coords_plusone", 0, "so boxes are a pixel larger than here")
    _only(node, "legacy", 0, "which samples at corners of bins")
    height, width = (int(v) for v in _needed(node, "image_size"))
    if (height, width) != tuple(picture):
        raise Declined(RULE, f"image_size is {[height, width]}, and the picture's {picture}", node)
    scales = tuple(m[2] / height for m in maps)
    if len(maps) != 4 or any(not math.isclose(m[3] / width, m[2] / height) for m in maps):
        raise Declined(RULE, "its maps are not four pictures of one shape", node)
    boxes, absolute = x[0], bool(a.get("roi_coords_absolute", 1))
    if a.get("roi_coords_swap", 0):
        boxes = out.op("Gather", boxes, out.ints(1, 0, 3, 2), axis=2)
    if not absolute:
        boxes = out.op("Mul", boxes, out.constant((width, height, width, height)))
    corner = out.constant((width, height, width, height))
    boxes = out.op("Min", out.op("Max", boxes, out.constant(0.0)), corner)
    size = int(a.get("pooled_size", 7))
    return out.maskrt(
        "MultilevelRoIAlign", [boxes, *x[1:]], [("", _FLOAT, (1, count, maps[0][1], size, size))],
        _pooling((size, size), int(a.get("sampling_ratio", 0)), 1, scales,
                 float(a.get("fpn_scale", 224)), 2),
    )  # fmt: skip


def _mmdeploy_pyramid(
    out: Emitter, node: Node, x: Sequence[str], shapes: Sequence[_Shape], _: _Shape
) -> list[str]:
    a, count, maps = node.attributes, shapes[0][0], shapes[1:]
    _only(node, "pool_mode", 1, "so it takes the maximum, which lowers to no other target")
    grown = float(a.get("roi_scale_factor", 1.0))
    if grown > 0 and grown != 1:
        raise Declined(RULE, f"roi_scale_factor is {grown:g}, which makes boxes larger", node)
    strides = [float(v) for v in _needed(node, "featmap_strides")]
    if len(strides) != len(maps):
        raise Declined(RULE, f"it has {len(maps)} maps and {len(strides)} strides", node)
    bins = (int(_needed(node, "output_height")), int(_needed(node, "output_width")))
    boxes = out.op("Reshape", out.slice_last(x[0], 1, 5), out.ints(1, count, 4))
    read = _pooling(bins, int(a.get("sampling_ratio", 0)), int(a.get("aligned", 1)),
                    tuple(1 / stride for stride in strides))  # fmt: skip
    read |= {"canonical_scale": float(_needed(node, "finest_scale")), "canonical_level": 0,
             "level_epsilon": math.log2(1 + 1e-6), "min_level": 0}  # fmt: skip
    (pooled,) = out.maskrt(
        "MultilevelRoIAlign", [boxes, *x[1:]], [("", _FLOAT, (1, count, maps[0][1], *bins))], read
    )
    return [out.op("Reshape", pooled, out.ints(count, maps[0][1], *bins))]


def _resize(
    out: Emitter, node: Node, x: Sequence[str], shapes: Sequence[_Shape], _: _Shape
) -> list[str]:
    scale = float(_needed(node, "scale"))
    sizes = (*shapes[0][:2], *(int(side * scale) for side in shapes[0][2:]))
    return [
        out.op("Resize", x[0], "", "", out.ints(*sizes), mode="nearest", nearest_mode="floor",
               coordinate_transformation_mode="asymmetric")
    ]  # fmt: skip
