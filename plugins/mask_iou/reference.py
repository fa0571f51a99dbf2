"""MaskIoU in plain PyTorch: the definition that every other body is compared with."""

import torch
from torch import Tensor

__all__ = ["mask_iou"]


def mask_iou(masks: Tensor, *, threshold: float) -> tuple[Tensor, Tensor]:
    """Compare all pairs of `masks [B, N, H, W]`.

    Returns:
        IoU float `[B, N, N]`, pixels float `[B, N]`.
    """
    inside = (masks.to(torch.float32) > threshold).flatten(2).to(torch.float64)
    shared = inside @ inside.transpose(1, 2)
    area = inside.sum(2)
    union = area[:, :, None] + area[:, None] - shared
    iou = torch.where(union > 0, shared.float() / union.float(), 0.0)
    return iou, area.float()
