"""Preprocess in plain PyTorch: the definition that every other body is compared with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .resample import PRECISION_BITS, placed_size, resampling_taps

__all__ = ["letterbox", "preprocess"]


def preprocess(
    image: Tensor,
    *,
    height: int,
    width: int,
    pad_value: Sequence[float],
    mean: Sequence[float],
    std: Sequence[float],
    half: int,
) -> Tensor:
    """Letterbox `image`, uint8 `[H, W, 3]`, and normalise it.

    Returns:
        `[1, 3, height, width]`, float16 if `half`, else float32.
    """
    canvas = letterbox(image, (height, width), pad_value)
    normalised = (canvas - torch.tensor(mean)) / torch.tensor(std)
    tensor = normalised.permute(2, 0, 1)[None].contiguous()
    return tensor.to(torch.float16) if half else tensor


def letterbox(image: Tensor, canvas_size: tuple[int, int], pad_value: Sequence[float]) -> Tensor:
    """Return the canvas, float32 `[height, width, 3]`, in the picture's units."""
    rows, columns = placed_size((image.shape[0], image.shape[1]), canvas_size)
    across = _resample(image.to(torch.int64), 1, columns)
    canvas = torch.tensor(pad_value).repeat(*canvas_size, 1)
    canvas[:rows, :columns] = _resample(across, 0, rows).to(torch.float32)
    return canvas


def _resample(pixels: Tensor, axis: int, outputs: int) -> Tensor:
    """Resample int64 `pixels` of 0 to 255 along `axis`, in fixed point; rounds halves up."""
    source = pixels.shape[axis]
    if source == outputs:
        return pixels
    taps = resampling_taps(source, outputs)
    first, weights = torch.from_numpy(taps.first), torch.from_numpy(taps.weights)
    shape = [1, 1, 1]
    shape[axis] = outputs
    total = torch.tensor(1 << (PRECISION_BITS - 1))
    for tap in range(weights.shape[1]):
        place = (first + tap).clamp(max=source - 1)
        total = total + pixels.index_select(axis, place) * weights[:, tap].reshape(shape)
    return (total >> PRECISION_BITS).clamp(max=255)
