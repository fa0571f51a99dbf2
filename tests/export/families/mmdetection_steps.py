"""mmdetection's steps from the heads' outputs to full-size masks, for YOLACT and CondInst.

Restated in NumPy, one instance and one pixel row at a time, in mmdetection 3.3.0's order;
nothing here is maskrt's. Probabilities are returned rather than masks, so that a test can leave out
what lies at the threshold.

    YOLACT     anchors at (i + 1/2) · stride → softmax → best nms_pre of each level → decoded,
               clipped → Fast NMS → sigmoid(prototypes · coefficients) → cropped → resized
    CondInst   classes above 0.05 → best nms_pre of each level by class → decoded, clipped → NMS on
               class · centerness → three 1x1 convolutions → twice the size → sigmoid → four times
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Instance", "condinst", "yolact"]

_STDS = (0.1, 0.1, 0.2, 0.2)


class Instance(NamedTuple):
    """One detection; `probabilities` float `[H, W]`, `label` from 0."""

    score: float
    label: int
    box: list[float]
    probabilities: np.ndarray


def yolact(
    levels: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    prototypes: np.ndarray,
    size: tuple[int, int],
    *,
    strides: Sequence[float],
    scales: Sequence[float],
    nms_pre: int,
    most: int,
) -> list[Instance]:
    """Return the instances of one picture, best first.

    Args:
        levels: logits `[3 (C + 1), h, w]`, *background last* of each anchor, codes `[12, h, w]`,
            and coefficients `[3 k, h, w]`.
        prototypes: `[k, H', W']`.
        size: of the picture.
        strides: of the anchors.
        scales: of the anchors.
        nms_pre: anchors of a level.
        most: detections.
    """
    rows = []  # probabilities of the classes, box, coefficients
    number = prototypes.shape[0]
    for (logits, codes, coefficients), stride, scale in zip(levels, strides, scales, strict=True):
        here = []
        for y in range(logits.shape[1]):
            for x in range(logits.shape[2]):
                for a, ratio in enumerate((0.5, 1.0, 2.0)):
                    classes = logits.shape[0] // 3
                    own = logits[a * classes : (a + 1) * classes, y, x].astype(float)
                    exponents = np.exp(own - own.max())
                    centre = ((x + 0.5) * stride, (y + 0.5) * stride)
                    sides = (scale / math.sqrt(ratio), scale * math.sqrt(ratio))
                    code = codes[4 * a : 4 * a + 4, y, x]
                    box = _decoded(centre, sides, code, size)
                    coefficient = coefficients[a * number : (a + 1) * number, y, x]
                    here.append(((exponents / exponents.sum())[:-1], box, coefficient))
        rows += sorted(here, key=lambda row: -row[0].max())[:nms_pre]
    found = []
    for label in range(len(rows[0][0])):
        ordered = sorted(rows, key=lambda row: -row[0][label])[:200]
        ordered = [row for row in ordered if row[0][label] > 0.05]
        for place, (scores, box, coefficient) in enumerate(ordered):
            if all(_iou(box, other) <= 0.5 for _, other, _ in ordered[:place]):
                found.append((float(scores[label]), label, box, coefficient))
    found.sort(key=lambda one: -one[0])
    return [
        Instance(score, label, box, _cropped_mask(coefficient, prototypes, box, size))
        for score, label, box, coefficient in found[:most]
    ]


def _decoded(
    centre: tuple[float, float], sides: tuple[float, float], code: np.ndarray,
    size: tuple[int, int],
) -> list[float]:  # fmt: skip
    dx, dy, dw, dh = (float(c) * std for c, std in zip(code, _STDS, strict=True))
    x, y = centre[0] + dx * sides[0], centre[1] + dy * sides[1]
    w, h = sides[0] * math.exp(dw), sides[1] * math.exp(dh)
    return _clipped([x - w / 2, y - h / 2, x + w / 2, y + h / 2], size)


def _clipped(box: list[float], size: tuple[int, int]) -> list[float]:
    limits = (size[1], size[0], size[1], size[0])
    return [min(max(edge, 0.0), limit) for edge, limit in zip(box, limits, strict=True)]


def _iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def _cropped_mask(
    coefficient: np.ndarray, prototypes: np.ndarray, box: list[float], size: tuple[int, int]
) -> np.ndarray:
    mask = 1 / (1 + np.exp(-np.tensordot(coefficient, prototypes.astype(float), 1)))
    height, width = mask.shape
    x1, x2 = box[0] / size[1] * width - 1, box[2] / size[1] * width + 1
    y1, y2 = box[1] / size[0] * height - 1, box[3] / size[0] * height + 1
    for y in range(height):
        for x in range(width):
            if not (x1 <= x < x2 and y1 <= y < y2):
                mask[y, x] = 0
    rows = [(y + 0.5) * height / size[0] - 0.5 for y in range(size[0])]
    columns = [(x + 0.5) * width / size[1] - 0.5 for x in range(size[1])]
    return _read(mask, rows, columns)


def _read(values: np.ndarray, rows: Sequence[float], columns: Sequence[float]) -> np.ndarray:
    """Return `values [h, w]` linearly between elements, at rows and columns, cut to its sides."""
    for axis, places in ((0, rows), (1, columns)):
        last = values.shape[axis] - 1
        at = np.clip(np.array(places, float), 0, last)
        low = np.floor(at).astype(int)
        weight = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        below, above = np.take(values, low, axis), np.take(values, np.minimum(low + 1, last), axis)
        values = below * (1 - weight) + above * weight
    return values


def condinst(
    levels: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
    features: np.ndarray,
    size: tuple[int, int],
    *,
    strides: Sequence[int],
    nms_pre: int,
    most: int,
) -> list[Instance]:
    """Return the instances of one picture, best first.

    Args:
        levels: class logits `[C, h, w]`, distances `[4, h, w]` in strides, centerness `[1, h, w]`,
            and parameters `[169, h, w]`.
        features: `[8, h, w]` at stride 8.
        size: of the picture.
        strides: of the levels; a size of interest is eight of them.
        nms_pre: candidates of a level.
        most: detections.
    """
    found = []
    for (logits, distances, centerness, parameters), stride in zip(levels, strides, strict=True):
        probability = 1 / (1 + np.exp(-logits.astype(float)))
        certain = sorted(np.argwhere(probability > 0.05), key=lambda at: -probability[tuple(at)])
        for label, y, x in certain[:nms_pre]:
            centre = 1 / (1 + math.exp(-float(centerness[0, y, x])))
            point = ((x + 0.5) * stride, (y + 0.5) * stride)
            left, top, right, bottom = (float(d) * stride for d in distances[:, y, x])
            edges = [point[0] - left, point[1] - top, point[0] + right, point[1] + bottom]
            box = _clipped(edges, size)
            if box[2] > box[0] and box[3] > box[1]:
                score = float(probability[label, y, x]) * centre
                found.append((score, int(label), box, point, 8 * stride, parameters[:, y, x]))
    found.sort(key=lambda one: -one[0])
    kept: list[tuple[float, int, list[float], tuple[float, float], int, np.ndarray]] = []
    for one in found:
        if all(one[1] != other[1] or _iou(one[2], other[2]) <= 0.6 for other in kept):
            kept.append(one)
    return [
        Instance(score, label, box, _own_network(features, parameters, point, interest, size))
        for score, label, box, point, interest, parameters in kept[:most]
    ]


def _own_network(
    features: np.ndarray, parameters: np.ndarray, point: tuple[float, float], interest: int,
    size: tuple[int, int],
) -> np.ndarray:  # fmt: skip
    height, width = features.shape[1:]
    across = (point[0] - (np.arange(width) * 8 + 4)) / interest
    down = (point[1] - (np.arange(height) * 8 + 4)) / interest
    x = np.concatenate(
        [
            np.broadcast_to(across, (1, height, width)),
            np.broadcast_to(down[:, None], (1, height, width)),
            features.astype(float),
        ]
    )
    place, offset = 0, 80 + 64 + 8
    for outputs, inputs in ((8, 10), (8, 8), (1, 8)):
        weight = parameters[place : place + outputs * inputs].reshape(outputs, inputs)
        bias = parameters[offset : offset + outputs]
        place, offset = place + outputs * inputs, offset + outputs
        x = np.tensordot(weight, x, 1) + bias[:, None, None]
        x = x if outputs == 1 else np.maximum(x, 0)
    mask = 1 / (1 + np.exp(-_aligned(x[0], 2)))
    return _aligned(mask, 4)[: size[0], : size[1]]


def _aligned(values: np.ndarray, factor: int) -> np.ndarray:
    """Upsample so that element i comes to lie at number `factor · i + factor // 2`."""
    rows, columns = (
        [(place - factor // 2) / factor for place in range(factor * length)]
        for length in values.shape
    )
    return _read(values, rows, columns)
