"""A small Mask R-CNN for the demonstration scenes: 320x320 pictures, six classes.

Made to quantize well and to train on a CPU: dense 3x3 convolutions, batch normalization and ReLU
only; no depthwise convolution, squeeze-and-excitation or hard activation. The backbone is a
ResNet with basic blocks, widths 32-64-128-224 at strides 4-8-16-32, under a 64-channel feature
pyramid; RPN and heads are torchvision's own modules at 64 channels. An FP16 copy of all parameters
and buffers stays below 8 MB.
"""

from __future__ import annotations

from typing import Any

from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from ..families.scenes_backbone import CHANNELS, scenes_backbone

__all__ = ["maskrcnn_scenes"]

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
        "box_head": TwoMLPHead(CHANNELS * 7 * 7, _HIDDEN),
        "box_predictor": FastRCNNPredictor(_HIDDEN, num_classes),
        "mask_roi_pool": MultiScaleRoIAlign(pooled, output_size=14, sampling_ratio=2),
        "mask_head": MaskRCNNHeads(CHANNELS, (CHANNELS,) * 4, dilation=1),
        "mask_predictor": MaskRCNNPredictor(CHANNELS, CHANNELS, num_classes),
    }
    # The predictors carry the number of classes, so MaskRCNN itself must not get one.
    return MaskRCNN(scenes_backbone(), num_classes=None, **{**_INFERENCE, **parts, **kwargs})
