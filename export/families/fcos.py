"""FCOS: a detector without anchors (Tian et al., 2019, arXiv 1904.01355), as CondInst uses it.

Each location of each pyramid level says what covers it: a logit per class, how central the
location is in the object, and the distances to the four sides of its box,

    distance = relu(scale_l · conv(tower)) · stride_l          (left, top, right, bottom)
    (x, y)   = stride_l · (i, j) + stride_l / 2
    box      = (x - left, y - top, x + right, y + bottom)

The towers are shared by all levels; the scale is a level's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["FCOSHead", "LevelPrediction", "boxes_from_distances", "flatten_level", "locations"]

_PRIOR = 0.01  # the probability of each class before training
_GROUPS = 32


class LevelPrediction(NamedTuple):
    """What the head says of one pyramid level of `h x w` locations.

    Attributes:
        logits: `[B, C, h, w]`, background has no channel.
        distances: `[B, 4, h, w]`, left, top, right, bottom, in units of the level's stride.
        centerness: logits `[B, 1, h, w]`.
        tower: the box tower's features `[B, channels, h, w]`.
    """

    logits: Tensor
    distances: Tensor
    centerness: Tensor
    tower: Tensor


class FCOSHead(nn.Module):
    """Towers and predictions shared by all pyramid levels."""

    def __init__(
        self, channels: int, num_labels: int, levels: int, *, convs: int = 4, norm: bool = True
    ) -> None:
        """Build the head.

        Args:
            channels: of the pyramid.
            num_labels: classes without background.
            levels: of the pyramid.
            convs: in each tower.
            norm: whether group normalisation follows each of them.
        """
        super().__init__()
        self.cls_tower = _tower(channels, convs, norm)
        self.box_tower = _tower(channels, convs, norm)
        self.logits = nn.Conv2d(channels, num_labels, 3, padding=1)
        self.distances = nn.Conv2d(channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ParameterList(torch.tensor(1.0) for _ in range(levels))
        for layer in (self.logits, self.distances, self.centerness):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        prior = -math.log((1 - _PRIOR) / _PRIOR)
        nn.init.constant_(self.logits.bias, prior)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor]) -> list[LevelPrediction]:
        """Predict for each level of the pyramid."""
        found = []
        for feature, scale in zip(features, self.scales, strict=True):
            tower = self.box_tower(feature)
            distances = torch.relu(scale * self.distances(tower))
            logits = self.logits(self.cls_tower(feature))
            found.append(LevelPrediction(logits, distances, self.centerness(tower), tower))
        return found


def locations(height: int, width: int, stride: int) -> Tensor:
    """Return the pixel `(x, y)` that each cell of a map stands for: `[height · width, 2]`."""
    x = torch.arange(width, dtype=torch.float32) * stride + stride // 2
    y = torch.arange(height, dtype=torch.float32) * stride + stride // 2
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], 1)


def flatten_level(values: Tensor) -> Tensor:
    """Turn `[B, C, h, w]` into `[B, h · w, C]`, in the order of `locations`."""
    return values.flatten(2).transpose(1, 2)


def boxes_from_distances(points: Tensor, distances_px: Tensor) -> Tensor:
    """Return boxes xyxy `[..., 4]` around `points [..., 2]`."""
    return torch.cat([points - distances_px[..., :2], points + distances_px[..., 2:]], -1)


def _tower(channels: int, convs: int, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(convs):
        conv = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        layers += [conv, *([nn.GroupNorm(_GROUPS, channels)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers)
