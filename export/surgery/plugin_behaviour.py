"""What TensorRT's plugins compute, in numpy and from their documentation, to hold surgery against.

It shares nothing with the operators of maskrt, nor with how surgery rewrites the plugins. Loops
stand where the kernels have threads; slow, and only run on a few pictures.

Source: `plugin/` in NVIDIA/TensorRT, the README and the kernel of each.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .graph import Node
from .plugin_shapes import kind

__all__ = ["behave"]

_SELECTED = 4096  # candidates that EfficientNMS looks at


def behave(node: Node, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the outputs of the plugin `node`: float32, and labels as exporters type them."""
    name, a = kind(node), node.attributes
    if name == "EfficientNMS_TRT":
        return _efficient_nms(a, *inputs)
    if name in ("BatchedNMS_TRT", "BatchedNMSDynamic_TRT"):
        return _batched_nms(a, *inputs)
    if name == "TRTBatchedNMS":
        return _mmdeploy_nms(a, *inputs)
    if name == "MMCVMultiLevelRoiAlign":
        return [_mmdeploy_pyramid(a, inputs[0], inputs[1:])]
    if name == "GatherTopk":
        data, index = inputs
        return [np.stack([rows[own] for rows, own in zip(data, index, strict=True)])]
    if name == "ROIAlign_TRT":
        return [_roialign(a, *inputs)]
    if name == "PyramidROIAlign_TRT":
        return [_pyramid(a, inputs[0], inputs[1:])]
    times = int(a["scale"])
    return [inputs[0].repeat(times, 2).repeat(times, 3)]


def _corners(boxes: np.ndarray) -> np.ndarray:
    """Return centre and size as corners."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def _efficient_nms(
    a: dict[str, Any], boxes: np.ndarray, scores: np.ndarray, anchors: np.ndarray | None = None
) -> list[np.ndarray]:
    shared = boxes.ndim == 3 or boxes.shape[2] == 1
    coded = boxes[:, :, None] if boxes.ndim == 3 else boxes
    if anchors is not None:
        start = anchors[:, :, None]
        centre = coded[..., :2] * start[..., 2:] + start[..., :2]
        coded = np.concatenate([centre, np.exp(coded[..., 2:]) * start[..., 2:]], -1)
    plain = _corners(coded) if a.get("box_coding", 0) else coded
    if a.get("score_activation", 0):
        scores = (1 / (1 + np.exp(-scores.astype(np.float64)))).astype(np.float32)
    kept = []
    for picture, own in zip(plain, scores, strict=True):
        row, label = np.nonzero(own >= np.float32(a["score_threshold"]))
        real = label != a.get("background_class", -1)
        row, label = row[real], label[real]
        order = np.argsort(-own[row, label], kind="stable")[:_SELECTED]
        row, label = row[order], label[order]
        found = picture[row, 0 if shared else label]
        group = label * 0 if a.get("class_agnostic", 0) else label
        keep = _greedy(found, group, lambda iou: iou >= np.float32(a["iou_threshold"]))
        keep = keep[: a["max_output_boxes"]]
        kept.append((found[keep], own[row, label][keep], label[keep]))
    return _padded(kept, int(a["max_output_boxes"]), np.int32)


def _batched_nms(a: dict[str, Any], boxes: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    kept = []
    for picture, own in zip(boxes, scores, strict=True):
        rows, labels = [], []
        for label in range(own.shape[1]):
            if label == a.get("backgroundLabelId", -1):
                continue
            row = np.flatnonzero(own[:, label] > np.float32(a["scoreThreshold"]))
            row = row[np.argsort(-own[row, label], kind="stable")][: a["topK"]]
            found = picture[row, 0 if picture.shape[1] == 1 else label]
            keep = _greedy(found, row * 0, lambda iou: iou > np.float32(a["iouThreshold"]))
            rows.append(row[keep])
            labels.append(np.full(len(keep), label))
        every, each = np.concatenate(rows), np.concatenate(labels)
        order = np.argsort(-own[every, each], kind="stable")[: a["keepTopK"]]
        every, each = every[order], each[order]
        found = picture[every, 0 if picture.shape[1] == 1 else each]
        found = np.clip(found, 0, 1) if a.get("clipBoxes", 1) else found
        kept.append((found, own[every, each], each))
    return _padded(kept, int(a["keepTopK"]), np.float32)


def _mmdeploy_nms(a: dict[str, Any], boxes: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    named = {
        "backgroundLabelId": a.get("background_label_id", -1), "topK": a["topk"],
        "keepTopK": a["keep_topk"], "scoreThreshold": a["score_threshold"],
        "iouThreshold": a["iou_threshold"], "clipBoxes": a.get("clip_boxes", 0),
    }  # fmt: skip
    named["topK"] = named["topK"] if named["topK"] > 0 else scores.shape[1]
    boxes = boxes[:, :, None] if boxes.ndim == 3 else boxes
    count, found, best, labels = _batched_nms(named, boxes, scores)
    real = np.arange(best.shape[1]) < count
    return [np.concatenate([found, best[..., None]], -1), np.where(real, labels, -1).astype("i8")]


def _mmdeploy_pyramid(
    a: dict[str, Any], rois: np.ndarray, maps: Sequence[np.ndarray]
) -> np.ndarray:
    aligned, pooled = bool(a.get("aligned", 1)), []
    for picture, *roi in rois:
        box = np.array(roi, np.float32)
        side = np.sqrt((box[3] - box[1]) * (box[2] - box[0]))
        level = int(np.clip(np.floor(np.log2(side / a["finest_scale"] + 1e-6)), 0, len(maps) - 1))
        box = box / np.float32(a["featmap_strides"][level])
        sides = box[2:] - box[:2] if aligned else np.maximum(box[2:] - box[:2], 1)
        bins = (a["output_height"], a["output_width"])
        low = box[:2] - (0.5 if aligned else 0.0)
        features = maps[level][int(picture)]
        pooled.append(_pool(features, low, sides, bins, a.get("sampling_ratio", 0)))
    return np.array(pooled, np.float32)


def _greedy(boxes: np.ndarray, groups: np.ndarray, too_near: Any) -> list[int]:
    """Return which of `boxes`, best first, no better kept one of its group is too near to."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    areas = sides[:, 0] * sides[:, 1]
    gone = np.zeros(len(boxes), bool)
    kept = []
    for index, box in enumerate(boxes):
        if gone[index]:
            continue
        kept.append(index)
        shared = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
        common = np.prod(np.maximum(shared, 0), 1, dtype=np.float32)
        union = areas + areas[index] - common
        iou = np.divide(common, union, out=np.zeros_like(common), where=(common > 0) & (union > 0))
        gone |= too_near(iou) & (groups == groups[index]) & (common > 0)
    return kept


def _padded(
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]], most: int, label: Any
) -> list[np.ndarray]:
    boxes, scores = np.zeros((len(kept), most, 4), np.float32), np.zeros((len(kept), most), "f4")
    labels = np.zeros((len(kept), most), label)
    for index, (box, score, own) in enumerate(kept):
        boxes[index, : len(box)], scores[index, : len(box)] = box, score
        labels[index, : len(box)] = own
    counts = np.array([[len(k[1])] for k in kept], np.int32)
    return [counts, boxes, scores, labels]


def _roialign(
    a: dict[str, Any], features: np.ndarray, rois: np.ndarray, pictures: np.ndarray
) -> np.ndarray:
    offset = 0.5 if a.get("coordinate_transformation_mode", 1) else 0.0
    bins = (a.get("output_height", 1), a.get("output_width", 1))
    pooled = []
    for roi, picture in zip(rois * np.float32(a.get("spatial_scale", 1.0)), pictures, strict=True):
        low = roi[:2] - offset
        sides = roi[2:] - roi[:2]
        sides = sides if offset else np.maximum(sides, 1.0)
        pooled.append(_pool(features[int(picture)], low, sides, bins, a.get("sampling_ratio", 0)))
    return np.array(pooled, np.float32)


def _pool(
    features: np.ndarray, low: np.ndarray, sides: np.ndarray, bins: tuple[int, int], ratio: int
) -> np.ndarray:
    """Return `[C, *bins]` of samples spread evenly over each bin of one box; x comes first."""
    weights = []
    for start, side, count, size in ((low[1], sides[1], bins[0], features.shape[1]),
                                     (low[0], sides[0], bins[1], features.shape[2])):  # fmt: skip
        samples = ratio if ratio > 0 else int(np.ceil(side / count))
        if samples <= 0:  # an empty box has no samples, whose mean the kernels take for 0
            weights.append(np.zeros((count, size)))
            continue
        step = side / count / samples
        place = start + step * (np.arange(count * samples) + 0.5)
        inside = (place >= -1) & (place <= size)
        place = np.clip(place, 0, size - 1)
        hat = np.maximum(1 - np.abs(place[:, None] - np.arange(size)), 0) * inside[:, None]
        weights.append(hat.reshape(count, samples, size).mean(1))
    return np.einsum("ih,chw,jw->cij", weights[0], features, weights[1], optimize=True)


def _pyramid(a: dict[str, Any], rois: np.ndarray, maps: Sequence[np.ndarray]) -> np.ndarray:
    height, width = a["image_size"]
    if a.get("roi_coords_swap", 0):
        rois = rois[..., [1, 0, 3, 2]]
    if a.get("roi_coords_absolute", 1):
        rois = rois / np.array([width, height, width, height], np.float32)
    rois = np.clip(rois, 0, 1)
    size, first = a.get("pooled_size", 7), a.get("fpn_scale", 224) ** 2 / (height * width) / 4
    pooled = []
    for index, picture in enumerate(rois):
        for x0, y0, x1, y1 in picture:
            area = (y1 - y0) * (x1 - x0)
            features = maps[int(sum(area > first * 4**step for step in range(3)))][index]
            scale = np.array(features.shape[:0:-1], np.float32)  # width, height
            low, high = np.array([x0, y0]) * scale, np.array([x1, y1]) * scale
            pooled.append(
                _pool(features, low - 0.5, high - low, (size, size), a.get("sampling_ratio", 0))
            )
    return np.array(pooled, np.float32).reshape(*rois.shape[:2], -1, size, size)
