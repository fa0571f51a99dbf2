"""The formulas of a YOLO's rows, in float64: what surgery holds a head against; see `yolo.py`."""

from dataclasses import dataclass

import numpy as np

from .declined import Declined
from .graph import Node

__all__ = ["Level", "by_distances", "centred", "check_anchored", "distances_of", "sigmoid"]

RULE = "YOLO head"


@dataclass(frozen=True)
class Level:
    """The last convolutions of one map, `[1, c, h, w]` each."""

    sources: tuple[str, ...]
    channels: tuple[int, ...]
    height: int
    width: int
    stride: int


def distances_of(boxes: np.ndarray, bins: int) -> np.ndarray:
    """Return left, top, right and bottom of codes `[A, 4 · bins]`, in strides."""
    if bins == 1:
        return boxes
    grouped = boxes.reshape(len(boxes), 4, bins)
    weights = np.exp(grouped - grouped.max(2, keepdims=True))
    mean: np.ndarray = (weights * np.arange(bins)).sum(2) / weights.sum(2)
    return mean


def by_distances(distances: np.ndarray, levels: tuple[Level, ...]) -> np.ndarray:
    """Return corners in pixels."""
    centre = np.concatenate([cells_of(level) + 0.5 for level in levels])
    stride = np.concatenate([np.full((v.height * v.width, 1), v.stride) for v in levels])
    corners = np.concatenate([centre - distances[:, :2], centre + distances[:, 2:]], 1)
    return corners * stride


def cells_of(level: Level) -> np.ndarray:
    """Return x and y of each cell, row by row: `[h · w, 2]`."""
    y, x = np.mgrid[: level.height, : level.width]
    return np.stack([x.ravel(), y.ravel()], 1).astype(np.float64)


def centred(corners: np.ndarray) -> np.ndarray:
    """Return centre and size of corners."""
    low, high = corners[:, :2], corners[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], 1)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Return `1 / (1 + exp(-values))`."""
    result: np.ndarray = 1 / (1 + np.exp(-values))
    return result


def check_anchored(
    found: np.ndarray,
    feeds: dict[str, np.ndarray],
    levels: tuple[Level, ...],
    a_cell: int,
    sizes: np.ndarray,
    end: Node | None,
) -> None:
    """Hold YOLOv5's rows against its formula; `sizes` are those of codes of zero: the anchors."""
    expected: list[np.ndarray] = []
    for level in levels:
        raw = feeds[level.sources[0]][0].astype(np.float64)
        rows = raw.reshape(a_cell, -1, level.height * level.width).transpose(0, 2, 1)
        for anchor in rows:
            squashed = sigmoid(anchor)
            centre = (squashed[:, :2] * 2 - 0.5 + cells_of(level)) * level.stride
            start = sum(map(len, expected))
            size = (squashed[:, 2:4] * 2) ** 2 * sizes[start : start + len(anchor)]
            expected.append(np.concatenate([centre, size, squashed[:, 4:], anchor[:, 4:]], 1))
    rows = np.concatenate(expected)
    classes = found.shape[1]
    if not np.allclose(found[:, :4], rows[:, :4], atol=0.02, rtol=1e-4):
        raise Declined(RULE, "its boxes are not offsets of anchors, as YOLOv5's are", end)
    scores = (rows.shape[1] - 4) // 2
    squashed, plain = rows[:, 4 : 4 + scores], rows[:, 4 + scores :]
    alike = np.isclose(found[:, 4:classes], squashed, atol=1e-5).all(0)
    linear = np.isclose(found[:, 4:classes], plain, atol=1e-4).all(0)
    first = int(np.argmin(alike)) if not alike.all() else len(alike)
    if first < 2 or not linear[first:].all():
        raise Declined(RULE, "its scores and coefficients are not YOLOv5's", end)
