"""A small YOLACT for the demonstration scenes: 320x320 pictures, six classes.

The backbone is that of `maskrcnn_scenes`, with maps of 64 channels and strides 8 to 128; anchors
are smaller than the paper's, for objects of 8 to 300 pixels.
"""

from __future__ import annotations

from typing import Any

from ..families.backbones import scenes_fpn
from ..families.yolact import Anchors, Yolact

__all__ = ["yolact_scenes"]


def yolact_scenes(num_classes: int = 7, **kwargs: Any) -> Yolact:
    """Build the model with random weights.

    Args:
        num_classes: classes including background.
        **kwargs: arguments of `Yolact` that replace this model's choices.
    """
    parts: dict[str, Any] = {
        "channels": 64,
        "head_convs": 2,
        "anchors": Anchors(scales=(14, 28, 56, 112, 224)),
        "max_detections": 50,
    }
    return Yolact(scenes_fpn(first=3), num_classes, **{**parts, **kwargs})
