"""Layers that the one-stage heads are made of."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["ConvNorm", "Tower", "coordinates", "prior_bias", "resized"]

_GROUPS = 32


class ConvNorm(nn.Module):
    """Convolution, normalisation, ReLU.

    The layers of a head run on every level of the pyramid, whose statistics differ. Group
    normalisation (the papers' choice) has none to keep. Batch normalisation keeps a set for each
    level; it becomes part of the convolution when exported, so the head quantises as a whole.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, *, norm: str = "group", levels: int = 1
    ) -> None:
        """Make the layers.

        Args:
            inputs: channels.
            outputs: channels.
            kernel: side.
            norm: "group", "batch", or "none" for a bias alone.
            levels: sets of batch-norm statistics.
        """
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=norm == "none")
        self.conv: nn.Module = conv
        self.norm: nn.Module | None = None
        if norm == "group":
            self.norm = nn.GroupNorm(math.gcd(_GROUPS, outputs), outputs)
        elif norm == "batch":
            self.norm = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(levels))
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def fold(self) -> None:
        """Put batch norms into convolutions, one for each level; for a graph, in eval mode."""
        conv: Any = self.conv
        if isinstance(self.norm, nn.ModuleList):
            norms: list[Any] = list(self.norm)
            self.conv = nn.ModuleList(fuse_conv_bn_eval(conv, norm) for norm in norms)
            self.norm = None

    def forward(self, x: Tensor, level: int = 0) -> Tensor:
        """Return float `[B, outputs, h, w]`."""
        x = (self.conv[level] if isinstance(self.conv, nn.ModuleList) else self.conv)(x)
        if isinstance(self.norm, nn.ModuleList):
            x = self.norm[level](x)
        elif self.norm is not None:
            x = self.norm(x)
        return torch.relu(x)


class Tower(nn.ModuleList):
    """`depth` 3x3 `ConvNorm`s, one after the other."""

    def __init__(self, inputs: int, channels: int, depth: int, *, norm: str, levels: int) -> None:
        """Make the layers; the first takes `inputs` channels."""
        super().__init__(
            ConvNorm(inputs if i == 0 else channels, channels, norm=norm, levels=levels)
            for i in range(depth)
        )

    def forward(self, x: Tensor, level: int) -> Tensor:
        """Return the last layer's output on `level`."""
        for layer in self:
            x = layer(x, level)
        return x


def coordinates(x: Tensor) -> Tensor:
    """Return CoordConv's two maps for `x [B, C, h, w]`: float `[B, 2, h, w]`, x and y, -1 to 1.

    Source: Liu et al., An intriguing failing of convolutional neural networks (2018).
    """
    height, width = int(x.shape[2]), int(x.shape[3])
    across = torch.linspace(-1, 1, width).expand(height, width)
    down = torch.linspace(-1, 1, height)[:, None].expand(height, width)
    both = torch.stack([across, down]).to(x)
    return both.expand(x.shape[0], 2, height, width)


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bilinearly to `size`, pixel edges on pixel edges."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def prior_bias(layer: nn.Conv2d, probability: float = 0.01) -> None:
    """Start `layer` with logits of a rare class, as the focal loss needs it (Lin et al., 2017)."""
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, -math.log((1 - probability) / probability))
