"""TensorRT 8's built-in plugins in NumPy, and graphs that hold them run by ONNX's evaluator.

Written from what the plugins' sources say that they compute (NVIDIA/TensorRT, 8.5 and 8.6), one box
after another. Where the device has a choice, the emulators draw one: EfficientNMS sorts
equal scores in any order, and its pictures append their rows in any order.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

DOMAIN = "trt.plugins"

# The fields that the creators publish, with the types that they demand.
CREATORS = {
    "ROIAlign_TRT": {
        "coordinate_transformation_mode": AttributeProto.INT,
        "mode": AttributeProto.INT,
        "output_height": AttributeProto.INT,
        "output_width": AttributeProto.INT,
        "sampling_ratio": AttributeProto.INT,
        "spatial_scale": AttributeProto.FLOAT,
    },
    "EfficientNMS_ONNX_TRT": {
        "score_threshold": AttributeProto.FLOAT,
        "iou_threshold": AttributeProto.FLOAT,
        "max_output_boxes_per_class": AttributeProto.INT,
        "center_point_box": AttributeProto.INT,
    },
}
MOST_SELECTED = 5000
_DENSE_BELOW = 0.007  # score thresholds below it make every score a candidate
_REJECTED = np.float32(-(1 << 15))


def run_lowered(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Run a model that was lowered to the built-in plugins."""
    operators = [ROIAlign_TRT, EfficientNMS_ONNX_TRT, GatherElements, ScatterElements]
    evaluator = ReferenceEvaluator(model, new_ops=operators)
    with np.errstate(all="ignore"):
        return evaluator.run(None, dict(inputs))


class GatherElements(OpRun):
    """The evaluator's own gathers from at most 64 places."""

    op_domain = ""

    def _run(self, data: Any, indices: Any, axis: int = 0) -> tuple[np.ndarray]:
        return (np.take_along_axis(data, indices, axis),)


class ScatterElements(OpRun):
    """Along one axis, to places that are there: TensorRT counts none from the end."""

    op_domain = ""

    def _run(self, data: Any, indices: Any, updates: Any, **attributes: Any) -> tuple[np.ndarray]:
        assert attributes["axis"] == 0
        assert data.ndim == indices.ndim == 1
        assert indices.min() >= 0
        result = data.copy()
        result[indices] = updates
        return (result,)


class ROIAlign_TRT(OpRun):  # noqa: N801 - the evaluator goes by the name
    """`ROIAlign_TRT`, version 1, mode 1 (average)."""

    op_domain = DOMAIN

    def _run(self, x: Any, rois: Any, batch_indices: Any, **_: Any) -> tuple[np.ndarray]:
        assert x.dtype == rois.dtype == np.float32
        assert batch_indices.dtype == np.int32
        assert rois.shape == (len(batch_indices), 4)
        assert self.mode == 1
        size = (self.output_height, self.output_width)
        pooled = np.empty((len(rois), x.shape[1], *size), np.float32)
        for n, (roi, picture) in enumerate(zip(rois, batch_indices, strict=True)):
            pooled[n] = self._pool(x[picture], roi, size)
        return (pooled,)

    def _pool(self, feature: np.ndarray, roi: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        aligned, scale = self.coordinate_transformation_mode, np.float32(self.spatial_scale)
        x0, y0, x1, y1 = roi * scale - np.float32(0.5 if aligned else 0.0)
        sides = np.array([y1 - y0, x1 - x0], np.float32)
        if not aligned:
            sides = np.maximum(sides, np.float32(1))
        bins = sides / np.array(size, np.float32)
        grid = [self.sampling_ratio or int(np.ceil(b)) for b in bins]
        count = np.float32(grid[0] * grid[1])
        if count == 0:
            return np.full((len(feature), *size), np.nan, np.float32)  # 0 divided by 0
        down = _points(y0, bins[0], size[0], grid[0])
        across = _points(x0, bins[1], size[1], grid[1])
        samples = _bilinear(feature, down, across)
        samples = samples.reshape(-1, size[0], grid[0], size[1], grid[1])
        return samples.sum(axis=(2, 4), dtype=np.float32) / count


def _points(start: np.float32, side: np.float32, bins: int, grid: int) -> np.ndarray:
    """Return the sampling points of one axis, `[bins · grid]`."""
    bin_, sample = np.arange(bins, dtype=np.float32), np.arange(grid, dtype=np.float32)
    step = side / np.float32(grid)
    return ((start + bin_[:, None] * side) + (sample + np.float32(0.5)) * step).ravel()


def _bilinear(feature: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sample `[C, H, W]` at every pair of `y` and `x`; zero outside [-1, H] x [-1, W]."""
    height, width = feature.shape[1:]
    inside = ((y >= -1) & (y <= height))[:, None] & ((x >= -1) & (x <= width))
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = y.astype(int), x.astype(int)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    dy, dx = (y - top)[:, None].astype(np.float32), (x - left).astype(np.float32)
    value = (1 - dy) * (1 - dx) * feature[:, top][:, :, left]
    value = value + (1 - dy) * dx * feature[:, top][:, :, right]
    value = value + dy * (1 - dx) * feature[:, bottom][:, :, left]
    value = value + dy * dx * feature[:, bottom][:, :, right]
    return np.where(inside, value, np.float32(0))


class EfficientNMS_ONNX_TRT(OpRun):  # noqa: N801
    """`EfficientNMS_ONNX_TRT`, version 1, boxes by corners."""

    op_domain = DOMAIN
    draw = np.random.default_rng(0)

    def _run(self, boxes: Any, scores: Any, **_: Any) -> tuple[np.ndarray]:
        assert boxes.dtype == scores.dtype == np.float32
        assert boxes.shape[:2] == scores.shape[:2]
        assert scores.ndim == 3
        assert self.center_point_box == 0
        batch, most = len(boxes), self.max_output_boxes_per_class
        found = [self._suppress(b, boxes[b], scores[b]) for b in range(batch)]
        turns = self.draw.permutation(np.repeat(np.arange(batch), [len(rows) for rows in found]))
        queues = [iter(rows) for rows in found]
        rows = [next(queues[b]) for b in turns]
        padding = [rows[-1] if rows else (-1, -1, -1)] * (batch * most - len(rows))
        return (np.array(rows + padding, np.int32).reshape(batch * most, 3),)

    def _suppress(
        self, picture: int, boxes: np.ndarray, scores: np.ndarray
    ) -> list[tuple[int, int, int]]:
        anchor, label, score = self._candidates(scores)
        corners = np.concatenate(
            [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1
        )
        alive = np.ones(len(anchor), bool)
        kept: list[tuple[int, int, int]] = []
        for i in range(len(anchor)):
            if not alive[i]:
                continue
            if len(kept) == self.max_output_boxes_per_class:
                break
            kept.append((picture, int(label[i]), int(anchor[i])))
            overlap = _iou(corners[anchor[i]], corners[anchor])
            later = np.arange(len(anchor)) > i
            hit = later & (label == label[i]) & (score <= score[i])
            alive &= ~(hit & (overlap >= np.float32(self.iou_threshold)))
        return kept

    def _candidates(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return box, class and score of the best, sorted by score, equal ones in any order."""
        classes, flat = scores.shape[1], scores.ravel()
        below = flat < np.float32(self.score_threshold)
        if self.score_threshold < _DENSE_BELOW:
            flat = np.where(below, _REJECTED, flat)
            chosen = np.arange(flat.size)
        else:
            chosen = self.draw.permutation(np.nonzero(~below & ~np.isnan(flat))[0])
        chosen = chosen[np.argsort(-flat[chosen], kind="stable")][:MOST_SELECTED]
        return chosen // classes, chosen % classes, flat[chosen]


def _iou(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the overlap of a box with others, 0 where an area is not positive."""
    shared = _area(np.maximum(one[:2], others[:, :2]), np.minimum(one[2:], others[:, 2:]))
    union = _area(one[:2], one[2:]) + _area(others[:, :2], others[:, 2:]) - shared
    return np.where((shared <= 0) | (union <= 0), np.float32(0), shared / union)


def _area(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    sides = high - low
    area = sides[..., 0] * sides[..., 1]
    return np.where((sides <= 0).any(-1), np.float32(0), area)
