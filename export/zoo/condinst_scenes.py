"""A small CondInst for the demonstration scenes: 320x320 pictures, six classes.

The backbone is that of `maskrcnn_scenes`, with maps of 64 channels and strides 8 to 64; towers have
three convolutions without normalisation, so that every layer quantizes.
"""

from __future__ import annotations

from typing import Any

from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ..families.backbones import scenes_fpn
from ..families.condinst import CondInst, CondInstInference

__all__ = ["condinst_scenes"]


def condinst_scenes(num_classes: int = 7, **kwargs: Any) -> CondInst:
    """Build the model with random weights.

    Args:
        num_classes: classes including background.
        **kwargs: arguments of `CondInst` that replace this model's choices.
    """
    parts: dict[str, Any] = {
        "channels": 64,
        "strides": (8, 16, 32, 64),
        "sizes_of_interest": (32, 64, 128, 256),
        "convs": 3,
        "norm": False,
        "mask_channels": 64,
        "inference": CondInstInference(candidates=200),
        "max_detections": 50,
    }
    backbone = scenes_fpn(first=3, last=LastLevelMaxPool())
    return CondInst(backbone, num_classes, **{**parts, **kwargs})
