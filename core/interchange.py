"""Instances in the formats of other tools: LabelMe's JSON, and supervision's `Detections`."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .lazy import require

if TYPE_CHECKING:
    from .instances import Instances

__all__ = ["to_labelme", "to_supervision"]

_LABELME_VERSION = "5.4.1"  # of the format that is written, not of an installed package


def to_labelme(found: "Instances", image_path: str, tolerance: float) -> dict[str, Any]:
    """Return a LabelMe annotation; parts of one mask share a `group_id`."""
    shapes = []
    for index, rings in enumerate(found.polygons(tolerance)):
        label = found.name_of(int(found.labels[index]))
        note = f"score {found.scores[index]:.3f}"
        if found.masks_source is None:
            corners = found.boxes[index].reshape(2, 2)
            shapes.append(_shape("rectangle", corners, label, None, note))
        shapes += [
            _shape("polygon", ring, label, index if len(rings) > 1 else None, note)
            for ring in rings
        ]
    height, width = found.image_size
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


def to_supervision(found: "Instances") -> Any:
    """Return `supervision.Detections`; class names are its `data["class_name"]`."""
    supervision = require("supervision", "make supervision.Detections")
    names = np.array([found.name_of(int(label)) for label in found.labels], dtype=str)
    return supervision.Detections(
        xyxy=found.boxes,
        mask=found.masks,
        confidence=found.scores,
        class_id=found.labels.astype(int),
        data={"class_name": names},
    )
