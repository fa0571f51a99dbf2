"""Mask and Faster R-CNN beside torchvision's own: other backbones, and detectron2's models."""

from __future__ import annotations

from typing import Any

from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import mobilenet_backbone

from ..families.backbones import resnet_fpn
from ..families.detectron2_rcnn import detectron2_rcnn
from ..families.timm_backbone import TimmFPN

__all__ = [
    "fasterrcnn_r50_detectron2",
    "fasterrcnn_r101_detectron2",
    "fasterrcnn_x101_detectron2",
    "maskrcnn_mobilenet_v3",
    "maskrcnn_r50_detectron2",
    "maskrcnn_r101",
    "maskrcnn_r101_detectron2",
    "maskrcnn_timm",
    "maskrcnn_x101_detectron2",
]

_MOBILENET_STAGES = [1, 2, 3, 5]  # strides 4, 8, 16, 32


def maskrcnn_r50_detectron2(num_classes: int = 81, **kwargs: Any) -> FasterRCNN:
    """Build the model of detectron2's `mask_rcnn_R_50_FPN`; see `detectron2_rcnn`."""
    return detectron2_rcnn(50, num_classes, **kwargs)


def maskrcnn_r101_detectron2(num_classes: int = 81, **kwargs: Any) -> FasterRCNN:
    """Build the model of detectron2's `mask_rcnn_R_101_FPN`; see `detectron2_rcnn`."""
    return detectron2_rcnn(101, num_classes, **kwargs)


def maskrcnn_x101_detectron2(num_classes: int = 81, **kwargs: Any) -> FasterRCNN:
    """Build the model of detectron2's `mask_rcnn_X_101_32x8d_FPN`; see `detectron2_rcnn`."""
    return detectron2_rcnn("x101", num_classes, **kwargs)


def fasterrcnn_r50_detectron2(num_classes: int = 81, **kwargs: Any) -> FasterRCNN:
    """Build the model of detectron2's `faster_rcnn_R_50_FPN`; see `detectron2_rcnn`."""
    return detectron2_rcnn(50, num_classes, masks=False, **kwargs)


def fasterrcnn_r101_detectron2(num_classes: int = 81, **kwargs: Any) -> FasterRCNN:
    """Build the model of detectron2's `faster_rcnn_R_101_FPN`; see `detectron2_rcnn`."""
    return detectron2_rcnn(101, num_classes, masks=False, **kwargs)


def fasterrcnn_x101_detectron2(num_classes: int = 81, **kwargs: Any) -> FasterRCNN:
    """Build the model of detectron2's `faster_rcnn_X_101_32x8d_FPN`; see `detectron2_rcnn`."""
    return detectron2_rcnn("x101", num_classes, masks=False, **kwargs)


def maskrcnn_r101(num_classes: int = 91, **kwargs: Any) -> MaskRCNN:
    """Build Mask R-CNN on ResNet-101, otherwise torchvision's `maskrcnn_resnet50_fpn`."""
    return MaskRCNN(resnet_fpn(101), num_classes, **kwargs)


def maskrcnn_mobilenet_v3(num_classes: int = 91, **kwargs: Any) -> MaskRCNN:
    """Build Mask R-CNN on torchvision's MobileNetV3-Large, with a pyramid from stride 4."""
    backbone = mobilenet_backbone(
        backbone_name="mobilenet_v3_large", weights=None, fpn=True,
        returned_layers=_MOBILENET_STAGES,
    )  # fmt: skip
    return MaskRCNN(backbone, num_classes, **kwargs)


def maskrcnn_timm(name: str, num_classes: int = 91, **kwargs: Any) -> MaskRCNN:
    """Build Mask R-CNN on a backbone of timm, named `maskrt:maskrcnn_timm_NAME`.

    Args:
        name: timm's, such as `resnet34` or `convnext_tiny`.
        num_classes: background included.
        **kwargs: arguments of torchvision's `MaskRCNN`.
    """
    backbone = TimmFPN(name)
    colours = {"image_mean": backbone.image_mean, "image_std": backbone.image_std}
    return MaskRCNN(backbone, num_classes, **{**colours, **kwargs})
