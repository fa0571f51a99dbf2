"""Any timm model with `features_only` as a backbone with a pyramid, for torchvision's detectors.

Its maps of strides 4, 8, 16 and 32 go into torchvision's FeaturePyramidNetwork, P6 is pooled from
P5. Models whose maps have their channels last (Swin) are turned round, and those that insist on the
size of their training are asked not to. Weights are not downloaded.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
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
        self.body, strides, widths = self._made(timm, name)
        self.used = [strides.index(stride) for stride in _STRIDES]
        widths = [widths[index] for index in self.used]
        fault = self._fault(widths)
        if fault:
            with suppress(TypeError):  # most models have no such option
                self.body, *_ = self._made(timm, name, strict_img_size=False)
                fault = self._fault(widths)
        if fault:
            raise UnsupportedModelError(f"timm's {name} {fault}.")
        self.fpn = FeaturePyramidNetwork(widths, channels, LastLevelMaxPool())
        self.out_channels = channels
        about = timm.get_pretrained_cfg(name)
        self.image_mean = list(about.mean if about else (0.485, 0.456, 0.406))
        self.image_std = list(about.std if about else (0.229, 0.224, 0.225))

    @staticmethod
    def _made(timm: Any, name: str, **options: Any) -> tuple[Any, list[int], list[int]]:
        """Return the model, and stride and width of each of its maps."""
        body = timm.create_model(name, features_only=True, pretrained=False, **options)
        strides, widths = body.feature_info.reduction(), body.feature_info.channels()
        if any(strides.count(stride) != 1 for stride in _STRIDES):
            raise UnsupportedModelError(
                f"timm's {name} has maps of strides {strides}, and a pyramid needs one each of "
                "4, 8, 16 and 32."
            )
        return body, strides, widths

    def _fault(self, widths: list[int]) -> str:
        """Say why a picture of another size than that of its training is too much, if it is."""
        try:
            with torch.no_grad():
                maps = self.eval()._maps(torch.zeros(1, 3, *_TRIED))
        except Exception as error:  # whatever a model of theirs may raise
            return (
                f"does not take a picture of 64 x 96 ({cause_of(error)}), and a backbone has to "
                "take any"
            )
        self.train()
        expected = [
            (1, width, _TRIED[0] // stride, _TRIED[1] // stride)
            for width, stride in zip(widths, _STRIDES, strict=True)
        ]
        found = [tuple(map_.shape) for map_ in maps]
        return (
            ""
            if found == expected
            else f"gives maps of {found} for a picture of 64 x 96, not {expected}"
        )

    def _maps(self, x: Tensor) -> list[Tensor]:
        """Return the maps that the pyramid takes, `[B, C, h, w]`."""
        maps = self.body(x)
        used = [maps[index] for index in self.used]
        last = getattr(self.body, "output_fmt", None) == "NHWC"
        return [map_.permute(0, 3, 1, 2) for map_ in used] if last else used

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the pyramid's maps by name."""
        return self.fpn(OrderedDict((str(i), map_) for i, map_ in enumerate(self._maps(x))))
