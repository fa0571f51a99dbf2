"""Instances in the formats of other tools: LabelMe's JSON, and supervision's `Detections`."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from .lazy import require
from .masks import Crop

__all__ = ["labelme", "supervision_detections"]

_LABELME_VERSION = "5.4.1"  # of the format that is written, not of an installed package


def labelme(
    boxes: np.ndarray,
    scores: np.ndarray,
    names: Sequence[str],
    rings: Sequence[Sequence[np.ndarray]] | None,
    image_size: tuple[int, int],
    image_path: str,
    crops: Sequence[Crop] | None = None,
) -> dict[str, Any]:
    """Return a LabelMe annotation; parts of one mask share a `group_id`.

    Args:
        boxes: float `[N, 4]`, xyxy.
        scores: float `[N]`.
        names: of each instance's class.
        rings: the outlines of each instance's mask, float `[K, 2]`; None without masks.
        image_size: `(height, width)`.
        image_path: the picture's file.
        crops: the masks themselves, which are then written in the place of outlines.
    """
    shapes: list[dict[str, Any]] = []
    for index, name in enumerate(names):
        note = f"score {scores[index]:.3f}"
        if crops is not None:
            shapes += _mask_shapes(crops[index], name, note)
            continue
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


def _mask_shapes(crop: Crop, label: str, note: str) -> list[dict[str, Any]]:
    """Return one shape of LabelMe's type `mask`: the corners of a box, both in it, and its pixels.

    Pixels are a PNG of zeros and ones in base64, as LabelMe writes them. A mask without pixels is
    no shape.
    """
    top, left, inside = crop
    if not inside.any():
        return []
    image = require("PIL.Image", "write masks for LabelMe")
    with io.BytesIO() as file:
        image.fromarray(inside.astype(np.uint8)).save(file, "PNG")
        pixels = base64.b64encode(file.getvalue()).decode("ascii")
    height, width = inside.shape
    corners = np.array([[left, top], [left + width - 1, top + height - 1]])
    return [{**_shape("mask", corners, label, None, note), "mask": pixels}]


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
