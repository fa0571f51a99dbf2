"""Mask R-CNN by name, beside torchvision's own: detectron2's R50-FPN and R101-FPN."""

from __future__ import annotations

from typing import Any

from torchvision.models.detection import MaskRCNN

from ..families.detectron2_mask_rcnn import detectron2_mask_rcnn

__all__ = ["maskrcnn_r50_detectron2", "maskrcnn_r101_detectron2"]


def maskrcnn_r50_detectron2(num_classes: int = 81, **kwargs: Any) -> MaskRCNN:
    """Build the model that detectron2's `mask_rcnn_R_50_FPN` weights fit."""
    return detectron2_mask_rcnn(50, num_classes, **kwargs)


def maskrcnn_r101_detectron2(num_classes: int = 81, **kwargs: Any) -> MaskRCNN:
    """Build the model that detectron2's `mask_rcnn_R_101_FPN` weights fit."""
    return detectron2_mask_rcnn(101, num_classes, **kwargs)
