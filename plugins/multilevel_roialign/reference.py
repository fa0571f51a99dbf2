"""MultilevelRoIAlign in plain PyTorch: the definition that every other body is compared with."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["FARTHEST", "assign_levels", "multilevel_roialign"]

FARTHEST = 1e9  # sum of the magnitudes of a usable box's coordinates


def assign_levels(
    boxes: Tensor,
    *,
    levels: int,
    canonical_scale: float,
    canonical_level: int,
    level_epsilon: float,
    min_level: int,
) -> Tensor:
    """Return the index of the feature map that each box `[..., 4]` is read from, int64 `[...]`.

    A box of negative area has no size: it is read from the first level.
    """
    side = torch.sqrt((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))
    level = torch.floor(canonical_level + torch.log2(side / canonical_scale) + level_epsilon)
    level = torch.clamp(level, min_level, min_level + levels - 1) - min_level
    return torch.nan_to_num(level, nan=0.0).to(torch.int64)


def multilevel_roialign(
    boxes: Tensor,
    features: Sequence[Tensor],
    *,
    output_height: int,
    output_width: int,
    sampling_ratio: int,
    aligned: int,
    mode: str,
    spatial_scales: Sequence[float],
    canonical_scale: float,
    canonical_level: int,
    level_epsilon: float,
    min_level: int,
    feature_scale: float = 1.0,
) -> Tensor:
    """Pool `boxes [B, N, 4]` (xyxy, input pixels) from `features`, a list of `[B, C, Hi, Wi]`.

    Returns:
        `[B, N, C, output_height, output_width]`, of the features' type, float32 for int8.
    """
    kind = torch.float32 if features[0].dtype == torch.int8 else features[0].dtype
    features = [feature.to(torch.float32) * feature_scale for feature in features]
    level = assign_levels(
        boxes,
        levels=len(features),
        canonical_scale=canonical_scale,
        canonical_level=canonical_level,
        level_epsilon=level_epsilon,
        min_level=min_level,
    )
    batch, count = boxes.shape[:2]
    channels = features[0].shape[1]
    output = features[0].new_zeros(batch, count, channels, output_height, output_width)
    for b in range(batch):
        for n in range(count):
            if not boxes[b, n].abs().sum() <= FARTHEST:
                continue
            index = int(level[b, n])
            output[b, n] = _pool_one(
                features[index][b],
                boxes[b, n] * spatial_scales[index],
                (output_height, output_width),
                sampling_ratio,
                bool(aligned),
                mode,
            )
    return output.to(kind)


def _pool_one(
    feature: Tensor, box: Tensor, size: tuple[int, int], ratio: int, aligned: bool, mode: str
) -> Tensor:
    """Pool one box (already in feature pixels) from one map `[C, H, W]` → `[C, h, w]`."""
    start = box[:2].flip(0) - (0.5 if aligned else 0.0)
    extent = (box[2:] - box[:2]).flip(0)
    if not aligned:
        extent = extent.clamp(min=1.0)
    axes = [_axis_matrix(start[a], extent[a], size[a], ratio, feature.shape[1 + a]) for a in (0, 1)]
    (rows, row_samples), (columns, column_samples) = axes
    samples = torch.einsum("yh,chw,xw->cyx", rows, feature, columns)
    if row_samples == 0 or column_samples == 0:
        return feature.new_zeros(feature.shape[0], *size)
    bins = samples.reshape(-1, size[0], row_samples, size[1], column_samples)
    return bins.amax(dim=(2, 4)) if mode == "max" else bins.mean(dim=(2, 4))


def _axis_matrix(
    start: Tensor, extent: Tensor, bins: int, ratio: int, size: int
) -> tuple[Tensor, int]:
    """Return bilinear weights `[bins · samples, size]` along one axis, and the samples a bin."""
    bin_size = extent / bins
    samples = ratio if ratio > 0 else max(int(torch.ceil(bin_size)), 0)
    offsets = (torch.arange(samples, dtype=start.dtype) + 0.5) * bin_size / max(samples, 1)
    points = start + (torch.arange(bins, dtype=start.dtype)[:, None] * bin_size + offsets).flatten()
    inside = (points >= -1.0) & (points <= size)
    points = points.clamp(0.0, size - 1.0)
    low = points.floor().clamp(max=size - 1).to(torch.int64)
    high = (low + 1).clamp(max=size - 1)
    fraction = points - low
    weights = start.new_zeros(len(points), size)
    weights.scatter_add_(1, low[:, None], (1 - fraction)[:, None])
    weights.scatter_add_(1, high[:, None], fraction[:, None])
    return weights * inside[:, None], samples
