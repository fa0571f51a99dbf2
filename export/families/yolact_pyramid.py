"""YOLACT's feature pyramid, P3 to P7, in the two forms that trained weights have.

                authors                     mmdetection
top-down        bilinear                    bilinear
P3 to P5        ReLU after the 3x3          none
P6              3x3, stride 2, of P5        3x3, stride 2, of C5
P7              3x3, stride 2, of P6        the same
"""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FeaturePyramidNetwork

from .backbones import resnet_fpn

__all__ = ["YolactFPN", "yolact_resnet"]


class YolactFPN(FeaturePyramidNetwork):
    """torchvision's pyramid, its names kept, with YOLACT's arithmetic."""

    def __init__(
        self, widths: list[int], channels: int, *, relu: bool = True, p6_of_c5: bool = False
    ) -> None:
        """Build the pyramid.

        Args:
            widths: channels of C3, C4, C5.
            channels: of every map.
            relu: whether one follows the convolutions of P3 to P5.
            p6_of_c5: whether P6 is made from C5, else from P5.
        """
        super().__init__(widths, channels)
        self.relu, self.p6_of_c5 = relu, p6_of_c5
        source = widths[-1] if p6_of_c5 else channels
        self.p6 = nn.Conv2d(source, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return five maps for C3, C4, C5, under the same names and "p6", "p7"."""
        names, inputs = list(x), list(x.values())
        inner = [block(c) for block, c in zip(self.inner_blocks, inputs, strict=True)]
        for i in range(len(inner) - 2, -1, -1):
            above = F.interpolate(
                inner[i + 1], size=inner[i].shape[-2:], mode="bilinear", align_corners=False
            )
            inner[i] = inner[i] + above
        maps = [block(i) for block, i in zip(self.layer_blocks, inner, strict=True)]
        if self.relu:
            maps = [m.relu() for m in maps]
        p6 = self.p6(inputs[-1] if self.p6_of_c5 else maps[-1])
        found = [*zip(names, maps, strict=True), ("p6", p6), ("p7", self.p7(p6))]
        return OrderedDict(found)


def yolact_resnet(depth: int, channels: int = 256) -> BackboneWithFPN:
    """Return a ResNet under the authors' pyramid, with random weights."""
    backbone = resnet_fpn(depth, channels=channels, first=3)
    widths = [block[0].in_channels for block in backbone.fpn.inner_blocks]
    backbone.fpn = YolactFPN(widths, channels)
    return backbone
