"""Any timm model with `features_only` as a backbone with a pyramid, for torchvision's detectors.

Its maps of strides 4, 8, 16 and 32 go into torchvision's FeaturePyramidNetwork, P6 is pooled from
P5. Weights are not downloaded.
"""

from __future__ import annotations

from collections import OrderedDict
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ...core import UnsupportedModelError, UsageError, require
from ..cause import cause_of

__all__ = ["TimmFPN"]

_STRIDES = [4, 8, 16, 32]
_TRIED = (64, 96)


class TimmFPN(nn.Module):
    """Pictures to maps "0" to "3" and "pool".

    Attributes:
        out_channels: of every map.
        image_mean, image_std: of the timm model's training.
    """

    def __init__(self, name: str, channels: int = 256) -> None:
        """Build `name` with random weights.

        Raises:
            MissingDependencyError: timm is not installed.
            UsageError: timm has no such model.
            UnsupportedModelError: it has no maps of strides 4, 8, 16, 32.
        """
        super().__init__()
        timm = require("timm", f"build maskrcnn_timm_{name}")
        if not timm.is_model(name):
            close = get_close_matches(name, timm.list_models(), 1)
            hint = f": did you mean {close[0]}?" if close else "."
            raise UsageError(f"timm has no model {name!r}{hint}")
        self.body: Any = timm.create_model(name, features_only=True, pretrained=False)
        strides, widths = self.body.feature_info.reduction(), self.body.feature_info.channels()
        if any(strides.count(stride) != 1 for stride in _STRIDES):
            raise UnsupportedModelError(
                f"timm's {name} has maps of strides {strides}, and a pyramid needs one each of "
                "4, 8, 16 and 32."
            )
        self.used = [strides.index(stride) for stride in _STRIDES]
        self._try_out(name, [widths[index] for index in self.used])
        self.fpn = FeaturePyramidNetwork(
            [widths[index] for index in self.used], channels, LastLevelMaxPool()
        )
        self.out_channels = channels
        about = timm.get_pretrained_cfg(name)
        self.image_mean = list(about.mean if about else (0.485, 0.456, 0.406))
        self.image_std = list(about.std if about else (0.229, 0.224, 0.225))

    def _try_out(self, name: str, widths: list[int]) -> None:
        """Refuse a model that takes one picture size alone, or whose maps are not NCHW."""
        try:
            with torch.no_grad():
                maps = self.body.eval()(torch.zeros(1, 3, *_TRIED))
        except Exception as error:  # whatever a model of theirs may raise
            raise UnsupportedModelError(
                f"timm's {name} does not take a picture of 64 x 96 ({cause_of(error)}), and a "
                "backbone has to take any."
            ) from error
        self.body.train()
        expected = [
            (1, width, _TRIED[0] // stride, _TRIED[1] // stride)
            for width, stride in zip(widths, _STRIDES, strict=True)
        ]
        found = [tuple(maps[index].shape) for index in self.used]
        if found != expected:
            raise UnsupportedModelError(
                f"timm's {name} gives maps of {found} for a picture of 64 x 96, not {expected}."
            )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the pyramid's maps by name."""
        maps = self.body(x)
        return self.fpn(OrderedDict((str(i), maps[index]) for i, index in enumerate(self.used)))
