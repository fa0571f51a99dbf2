"""The original file with its family's published postprocessing as the reference.

The file runs in ONNX Runtime, whole; what the family's program does with its answer is done here in
numpy, from its description (docs/surgery.md), one picture and one instance at a time. Nothing of
the canonical graph stands in between.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core import Instances, require
from .detr import DetrHead
from .one_pass import OnePass
from .original import Original
from .yolo import YoloHead

__all__ = ["PublishedReference"]


class PublishedReference:
    """Runs an ONNX file on `uint8 [H, W, 3]` pictures of its own size; see the module's text."""

    def __init__(self, path: Path, found: OnePass) -> None:
        """Remember what to run; the file is loaded when it is first needed."""
        self._path, self._found = path, found
        self._original: Original | None = None

    @property
    def name(self) -> str:
        """What is compared with, as a report says it."""
        kind = self._found.precision
        other = f", its {kind} weights computed in FP32," if kind else ""
        return f"the original ONNX{other} and its family's postprocessing"

    def predict(self, images: Sequence[np.ndarray]) -> list[Instances]:
        """Return the instances of each picture, uint8 `[H, W, 3]` of exactly the input's size."""
        return [self._predict(image) for image in images]

    def describe(self) -> dict[str, str]:
        """Say what runs: for reports."""
        version = require("onnxruntime", "run the original ONNX").__version__
        return {"backend": "onnxruntime", "version": version, "precision": "fp32"}

    def _predict(self, image: np.ndarray) -> Instances:
        head = self._found.head
        if isinstance(head, DetrHead):
            boxes, scores, labels, masks = self._detr(head, image)
        else:
            boxes, scores, labels, masks = self._yolo(head, image)
        size = (image.shape[0], image.shape[1])
        boxes = np.clip(boxes, 0, [size[1], size[0]] * 2).astype(np.float32)
        seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # as every session shows
        boxes, masks = boxes[seen], masks[seen]
        return Instances(
            boxes, scores[seen].astype(np.float32), labels[seen].astype(np.int64), size,
            masks_source=self._masks(masks, boxes, size),
        )  # fmt: skip

    def _yolo(self, head: YoloHead, image: np.ndarray) -> tuple[np.ndarray, ...]:
        rows, prototypes = self._run(image, head.predictions, head.prototypes)
        choice = self._found.choice
        rows = rows[0] if head.places_first or head.chosen else rows[0].T
        if head.chosen:
            kept = rows[rows[:, 4] > choice.score_threshold][: choice.max_detections]
            boxes, scores, labels, mixed = kept[:, :4], kept[:, 4], kept[:, 5], kept[:, 6:]
        else:
            start = 5 if head.objectness else 4
            classes = rows[:, start : start + head.classes]
            classes = classes * rows[:, 4:5] if head.objectness else classes
            labels, scores = classes.argmax(1), classes.max(1)
            order = np.argsort(-scores, kind="stable")
            order = order[scores[order] > choice.score_threshold]
            boxes, mixed = rows[order, :4], rows[order, start + head.classes :]
            boxes = boxes if head.corners else _corners(boxes)
            scores, labels = scores[order], labels[order]
            assert choice.iou_threshold is not None
            kept = _suppressed(
                boxes, labels * (not choice.class_agnostic), choice.iou_threshold,
                choice.max_detections,
            )  # fmt: skip
            boxes, scores, labels, mixed = boxes[kept], scores[kept], labels[kept], mixed[kept]
        flat = prototypes[0].reshape(head.coefficients, -1)
        masks = (mixed @ flat).reshape(-1, *prototypes.shape[2:])
        return boxes, scores, labels.astype(np.int64) + 1, masks

    def _detr(self, head: DetrHead, image: np.ndarray) -> tuple[np.ndarray, ...]:
        boxes, scores, masks = (
            found[0] for found in self._run(image, head.boxes, head.scores, head.masks)
        )
        choice = self._found.choice
        scores = scores if head.squashed else _sigmoid(scores)
        best = np.argsort(-scores.ravel(), kind="stable")[: choice.max_detections]
        best = best[scores.ravel()[best] > choice.score_threshold]
        query, label = np.divmod(best, head.classes)
        parts = _corners(boxes[query]) * ([image.shape[1], image.shape[0]] * 2)
        masks = masks[query] - 0.5 if head.masks_squashed else masks[query]
        return parts, scores.ravel()[best], label + head.first_label, masks

    def _masks(self, masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return bool `[N, H, W]` of logits `[N, h, w]`, inside above zero."""
        crop = self._found.choice.mask_crop
        full = np.zeros((len(masks), *size), bool)
        down, across = (
            _bilinear(n, m).astype(np.float32)
            for n, m in zip(masks.shape[1:], size, strict=True)
        )  # fmt: skip
        for inside, mask, box in zip(full, masks, boxes, strict=True):
            if crop == "prototypes":
                ratio = np.array([mask.shape[1] / size[1], mask.shape[0] / size[0]] * 2)
                mask = _sigmoid(mask) * _within(mask.shape, box * ratio) - np.float32(0.5)
            inside[:] = down @ mask @ across.T > 0
            if crop == "picture":
                inside &= _within(size, box)
        return full

    def _run(self, image: np.ndarray, *names: str) -> list[np.ndarray]:
        if self._original is None:
            self._original = Original(self._path, names)
        how = self._found.preprocessing
        x = image.transpose(2, 0, 1).astype(np.float32) / 255
        x = x[::-1] if how.bgr else x
        if how.outside:
            mean, std = (v.astype(np.float32)[:, None, None] for v in (how.mean, 1 / how.scale))
            x = (x - mean) / std
        else:
            x = x * how.white
        return self._original.run(x)


def _suppressed(boxes: np.ndarray, labels: np.ndarray, threshold: float, most: int) -> list[int]:
    """Return which boxes are kept, of which each comes before the next: greedy, by label."""
    kept: list[int] = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    for index in range(len(boxes)):
        if len(kept) == most:
            break
        others = np.array(kept, np.intp)
        low = np.maximum(boxes[others, :2], boxes[index, :2])
        high = np.minimum(boxes[others, 2:], boxes[index, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        with np.errstate(invalid="ignore"):  # two empty boxes do not overlap
            overlap = shared / (areas[others] + areas[index] - shared)
        if not ((overlap > threshold) & (labels[others] == labels[index])).any():
            kept.append(index)
    return kept


def _corners(boxes: np.ndarray) -> np.ndarray:
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], 1)


def _within(size: Sequence[int], box: np.ndarray) -> np.ndarray:
    """Return bool `[h, w]`: whether the numbers of an element are in the box."""
    y, x = np.ogrid[: size[0], : size[1]]
    inside: np.ndarray = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
    return inside


def _bilinear(source: int, outputs: int) -> np.ndarray:
    """Return `[outputs, source]`: bilinear resizing, centres to centres, edges repeated."""
    at = np.clip((np.arange(outputs) + 0.5) * source / outputs - 0.5, 0, source - 1)
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(source)))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # far below zero it is 0
        result: np.ndarray = 1 / (1 + np.exp(-values))
    return result
