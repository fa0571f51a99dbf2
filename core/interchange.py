"""Instances in the formats of other tools: LabelMe's JSON, and supervision's `Detections`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .lazy import require

__all__ = ["labelme", "supervision_detections"]

_LABELME_VERSION = "5.4.1"  # of the format that is written, not of an installed package


def labelme(
    boxes: np.ndarray,
    scores: np.ndarray,
    names: Sequence[str],
    rings: Sequence[Sequence[np.ndarray]] | None,
    image_size: tuple[int, int],
    image_path: str,
) -> dict[str, Any]:
    """Return a LabelMe annotation; parts of one mask share a `group_id`.

    Args:
        boxes: float `[N, 4]`, xyxy.
        scores: float `[N]`.
        names: of each instance's class.
        rings: the outlines of each instance's mask, float `[K, 2]`; None without masks.
        image_size: `(height, width)`.
        image_path: the picture's file.
    """
    shapes = []
    for index, name in enumerate(names):
        note = f"score {scores[index]:.3f}"
        if rings is None:
            corners = boxes[index].reshape(2, 2)
            shapes.append(_shape("rectangle", corners, name, None, note))
            continue
        group = index if len(rings[index]) > 1 else None
        shapes += [_shape("polygon", ring, name, group, note) for ring in rings[index]]
    height, width = image_size
    return {
        "version": _LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _shape(
    kind: str, points: np.ndarray, label: str, group: int | None, note: str
) -> dict[str, Any]:
    return {
        "label": label,
        "points": points.astype(float).tolist(),
        "group_id": group,
        "description": note,
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }


def supervision_detections(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    masks: np.ndarray | None,
) -> Any:
    """Return `supervision.Detections`; class names are its `data["class_name"]`."""
    supervision = require("supervision", "make supervision.Detections")
    return supervision.Detections(
        xyxy=boxes,
        mask=masks,
        confidence=scores,
        class_id=labels.astype(int),
        data={"class_name": np.array(names, dtype=str)},
    )
