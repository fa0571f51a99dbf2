"""A small Mask R-CNN for the demonstration scenes: 320x320 pictures, six classes.

Made to quantize well and to train on a CPU: dense 3x3 convolutions, batch normalization and ReLU
only; no depthwise convolution, squeeze-and-excitation or hard activation. The backbone is a
ResNet with basic blocks, widths 32-64-128-224 at strides 4-8-16-32, under a 64-channel feature
pyramid; RPN and heads are torchvision's own modules at 64 channels. An FP16 copy of all parameters
and buffers stays below 8 MB.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.models.resnet import BasicBlock
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

__all__ = ["maskrcnn_scenes", "scenes_backbone"]

_STAGES = ((32, 2, 1), (64, 2, 2), (128, 3, 2), (224, 1, 2))  # width, blocks, stride
_CHANNELS = 64
_HIDDEN = 256
_ANCHORS_PX = ((12,), (26,), (54,), (108,), (216,))
_ASPECTS = (0.5, 1.0, 2.0)
_INFERENCE = {
    "min_size": 320,
    "max_size": 320,
    "rpn_pre_nms_top_n_test": 500,
    "rpn_post_nms_top_n_test": 250,
    "box_detections_per_img": 50,
}


def maskrcnn_scenes(num_classes: int = 7, **kwargs: Any) -> MaskRCNN:
    """Build the model with random weights.

    Args:
        num_classes: classes including background.
        **kwargs: arguments of torchvision's `MaskRCNN` that replace this model's choices.

    Returns:
        A torchvision `MaskRCNN` in training mode, float32. Inference settings are torchvision's
        defaults except the picture size, 500 proposals before and 250 after NMS, and at most 50
        detections a picture.
    """
    pooled = ["0", "1", "2", "3"]
    parts: dict[str, Any] = {
        "rpn_anchor_generator": AnchorGenerator(_ANCHORS_PX, (_ASPECTS,) * len(_ANCHORS_PX)),
        "box_roi_pool": MultiScaleRoIAlign(pooled, output_size=7, sampling_ratio=2),
        "box_head": TwoMLPHead(_CHANNELS * 7 * 7, _HIDDEN),
        "box_predictor": FastRCNNPredictor(_HIDDEN, num_classes),
        "mask_roi_pool": MultiScaleRoIAlign(pooled, output_size=14, sampling_ratio=2),
        "mask_head": MaskRCNNHeads(_CHANNELS, (_CHANNELS,) * 4, dilation=1),
        "mask_predictor": MaskRCNNPredictor(_CHANNELS, _CHANNELS, num_classes),
    }
    # The predictors carry the number of classes, so MaskRCNN itself must not get one.
    return MaskRCNN(scenes_backbone(), num_classes=None, **{**_INFERENCE, **parts, **kwargs})


def scenes_backbone(first: int = 2, last: ExtraFPNBlock | None = None) -> BackboneWithFPN:
    """Return stem and four residual stages under a feature pyramid.

    Args:
        first: the finest map: 2 is stride 4, 3 is stride 8.
        last: what makes the maps above; None is a max-pooling, "pool".
    """
    width = _STAGES[0][0]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = nn.Sequential(_conv_bn(3, 16), nn.ReLU(), _conv_bn(16, width), nn.ReLU())
    for number, (channels, blocks, stride) in enumerate(_STAGES):
        layers[f"stage{number}"] = _stage(width, channels, blocks, stride)
        width = channels
    _initialize(layers)
    used = range(first - 2, len(_STAGES))
    levels = {f"stage{number}": str(place) for place, number in enumerate(used)}
    widths = [_STAGES[number][0] for number in used]
    return BackboneWithFPN(nn.Sequential(layers), levels, widths, _CHANNELS, last)


def _conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    """Residual blocks; the first changes width and resolution."""
    change = stride != 1 or inputs != outputs
    shortcut = _conv_bn(inputs, outputs, kernel=1, stride=stride) if change else None
    first = BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))


def _initialize(layers: OrderedDict[str, nn.Module]) -> None:
    """Kaiming-normal convolutions, as in torchvision's ResNet."""
    for layer in layers.values():
        for module in layer.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
