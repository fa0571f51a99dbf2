"""Backbones with a feature pyramid, shared by the one-stage families.

    resnet_fpn    torchvision's ResNet-18/34/50/101 under torchvision's FeaturePyramidNetwork
    scenes_fpn    the demo Mask R-CNN's own, whose trained weights fit under the same names

Both return maps by name, the finest first: "0", "1", … and those that are made from them. Maps
start at stride 4 (P2) or 8 (P3). Above them lies a max-pooling ("pool": P2 to P6, SOLO's) or two
convolutions of stride 2 ("p6", "p7": P3 to P7, CondInst's and YOLACT's).
"""

import torchvision
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import (
    ExtraFPNBlock,
    LastLevelMaxPool,
    LastLevelP6P7,
)

from ...core import UsageError
from .scenes_backbone import CHANNELS, scenes_backbone

__all__ = ["RESNETS", "resnet_fpn", "scenes_fpn"]

RESNETS = (18, 34, 50, 101)
_STAGES = 4  # of a ResNet; the first has stride 4


def resnet_fpn(
    depth: int = 50,
    *,
    channels: int = 256,
    first: int = 2,
    last: ExtraFPNBlock | None = None,
    grouped: bool = False,
) -> BackboneWithFPN:
    """Return a ResNet with a pyramid, with random weights.

    Args:
        depth: 18, 34, 50 or 101.
        channels: of every map of the pyramid.
        first: the finest map: 2 is stride 4, 3 is stride 8.
        last: what makes the coarsest maps; None is a max-pooling for P2 to P6, and two
            convolutions of P5 for P3 to P7.
        grouped: ResNeXt-101 32x8d, of `depth` 101.

    Raises:
        UsageError: no such ResNet.
    """
    if depth not in RESNETS or (grouped and depth != 101):
        raise UsageError(f"there is no ResNet-{depth}: give one of {', '.join(map(str, RESNETS))}.")
    name = "resnext101_32x8d" if grouped else f"resnet{depth}"
    body = torchvision.models.get_model(name, weights=None)
    widest = body.fc.in_features
    stages = range(first - 1, _STAGES + 1)
    levels = {f"layer{stage}": str(number) for number, stage in enumerate(stages)}
    widths = [widest // 2 ** (_STAGES - stage) for stage in stages]
    return BackboneWithFPN(body, levels, widths, channels, last or _extra(first, channels))


def scenes_fpn(*, first: int = 2, last: ExtraFPNBlock | None = None) -> BackboneWithFPN:
    """Return the demo Mask R-CNN's backbone: 64 channels, stride 4 (`first` 2) or 8 upward.

    With `first` 2 the trained weights of `maskrcnn_scenes` fit by name; with 3 those of its body,
    and of the pyramid `fpn.inner_blocks.{i}` and `fpn.layer_blocks.{i}` of `i + 1`.
    """
    return scenes_backbone(first=first, last=last or _extra(first, CHANNELS))


def _extra(first: int, channels: int) -> ExtraFPNBlock:
    return LastLevelMaxPool() if first == 2 else LastLevelP6P7(channels, channels)
