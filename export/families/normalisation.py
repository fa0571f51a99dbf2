"""How a PyTorch model normalises its pictures: `(x - mean) / std`, a number a channel, RGB.

A model keeps both as it was trained: of pictures from 0 to 1, which is torchvision's way, or of
pictures from 0 to 255, whose means and deviations are far above 1. Here both are of pictures from
0 to 1, and `white` says what the model itself takes for white. One number for all channels is three
times that number, as PyTorch broadcasts it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...core import UnsupportedModelError, UsageError
from ..cause import cause_of

__all__ = ["ModelNormalisation", "maps_of", "normalisation_of"]

_CHANNELS = 3
_LARGEST = 2.0  # a mean or deviation above it is of pictures from 0 to 255


@dataclass(frozen=True)
class ModelNormalisation:
    """Mean and deviation of red, green and blue.

    Attributes:
        mean, std: of pictures from 0 to 1.
        white: what the model takes for white, 1 or 255.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: float

    @property
    def filling(self) -> tuple[int, int, int]:
        """The mean as a colour, 0 to 255: what a picture is letterboxed with."""
        red, green, blue = (min(max(round(255 * m), 0), 255) for m in self.mean)
        return red, green, blue


def normalisation_of(image_mean: Any, image_std: Any) -> ModelNormalisation:
    """Return how a model with these two attributes normalises.

    >>> normalisation_of([0.5], [0.25]).mean
    (0.5, 0.5, 0.5)
    >>> normalisation_of([127.5, 127.5, 127.5], [63.75, 63.75, 63.75]).std
    (0.25, 0.25, 0.25)

    Raises:
        UnsupportedModelError: it takes pictures of another number of channels than three.
        UsageError: the numbers normalise nothing.
    """
    mean, std = _numbers("image_mean", image_mean), _numbers("image_std", image_std)
    if min(std) <= 0:
        raise UsageError(f"the model's image_std is {list(std)}, and must be numbers above 0.")
    white = 255.0 if max(*map(abs, mean), *std) > _LARGEST else 1.0
    return ModelNormalisation(tuple(m / white for m in mean), tuple(s / white for s in std), white)


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"the model's {name} is {values!r}, and must be three numbers, RGB.")
    if len(numbers) not in (1, _CHANNELS):
        raise UnsupportedModelError(
            f"the model's {name} has {len(numbers)} numbers, so it takes pictures of as many "
            "channels, and this version compiles models of three, red, green and blue: train one "
            "on the colours alone."
        )
    return numbers * (_CHANNELS // len(numbers))


def maps_of(backbone: nn.Module, pictures: Tensor) -> Tensor | Mapping[str, Tensor]:
    """Return what `backbone` makes of RGB `pictures [B, 3, H, W]`.

    Raises:
        UnsupportedModelError: it fails on them; the usual reason is another number of channels.
    """
    try:
        found: Tensor | Mapping[str, Tensor] = backbone(pictures)
    except RuntimeError as error:
        channels = _first_channels(backbone)
        if channels in (None, _CHANNELS):
            raise UnsupportedModelError(
                f"the model's backbone fails on pictures of {list(pictures.shape)} "
                f"({cause_of(error)}): give another input_size, or mend the backbone."
            ) from error
        grey = channels == 1
        remedy = (
            "put a convolution before it that makes grey of the colours (1x1, with the weights "
            "0.299, 0.587 and 0.114)" if grey else "train one on the colours alone"
        )  # fmt: skip
        raise UnsupportedModelError(
            f"the first layer of the model's backbone takes {channels} "
            f"{'channel' if grey else 'channels'}, and this version compiles models of three, red, "
            f"green and blue: {remedy}."
        ) from error
    return found


def _first_channels(backbone: nn.Module) -> int | None:
    """Return how many channels the first convolution takes, in the order of the modules."""
    return next((m.in_channels for m in backbone.modules() if isinstance(m, nn.Conv2d)), None)
