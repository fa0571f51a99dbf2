"""CondInst by name: the paper's on ResNets, and a small one for the demonstration scenes.

`condinst_scenes` is for 320x320 pictures and six classes. Its backbone is `maskrcnn_scenes`'s,
with maps of 64 channels and strides 8 to 64; towers have three convolutions without normalisation,
so that every layer quantizes.
"""

from __future__ import annotations

from typing import Any

from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ..families.backbones import resnet_fpn, scenes_fpn
from ..families.condinst import CondInst, CondInstInference

__all__ = ["condinst_r50", "condinst_r101", "condinst_scenes"]


def condinst_r50(num_classes: int = 81, **kwargs: Any) -> CondInst:
    """Build the paper's model on ResNet-50 with random weights.

    Args:
        num_classes: classes including background.
        **kwargs: arguments of `CondInst` that replace the paper's.
    """
    return CondInst(resnet_fpn(50, first=3), num_classes, **kwargs)


def condinst_r101(num_classes: int = 81, **kwargs: Any) -> CondInst:
    """Build `condinst_r50` on ResNet-101."""
    return CondInst(resnet_fpn(101, first=3), num_classes, **kwargs)


def condinst_scenes(num_classes: int = 7, **kwargs: Any) -> CondInst:
    """Build the small model with random weights.

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
