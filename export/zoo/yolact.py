"""YOLACT by name: the authors' on ResNets, and a small one for the demonstration scenes.

`yolact_scenes` is for 320x320 pictures and six classes. Its backbone is that of `maskrcnn_scenes`,
with maps of 64 channels and strides 8 to 128; its anchors fit objects of 8 to 300 pixels.
"""

from __future__ import annotations

from typing import Any

from ..families.backbones import scenes_fpn
from ..families.yolact import Anchors, Yolact
from ..families.yolact_pyramid import yolact_resnet

__all__ = ["yolact_r50", "yolact_r101", "yolact_scenes"]


def yolact_r50(num_classes: int = 81, **kwargs: Any) -> Yolact:
    """Build the authors' model on ResNet-50 with random weights.

    Args:
        num_classes: classes including background.
        **kwargs: arguments of `Yolact` that replace the paper's.
    """
    return Yolact(yolact_resnet(50), num_classes, **kwargs)


def yolact_r101(num_classes: int = 81, **kwargs: Any) -> Yolact:
    """Build `yolact_r50` on ResNet-101."""
    return Yolact(yolact_resnet(101), num_classes, **kwargs)


def yolact_scenes(num_classes: int = 7, **kwargs: Any) -> Yolact:
    """Build the small model with random weights.

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
