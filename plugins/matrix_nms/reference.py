"""MatrixNMS in plain PyTorch: the definition that every other body is compared with."""

import torch
from torch import Tensor

__all__ = ["matrix_nms"]


def matrix_nms(
    iou: Tensor, scores: Tensor, labels: Tensor, *, method: str, sigma: float, class_agnostic: int
) -> Tensor:
    """Decay `scores [B, N]` by `iou [B, N, N]` among `labels int32 [B, N]`: float `[B, N]`."""
    count = scores.shape[1]
    mine, theirs = scores[:, None, :], scores[:, :, None]
    earlier = torch.arange(count)[:, None] < torch.arange(count)[None]
    before = (theirs > mine) | ((theirs == mine) & earlier)  # [i, j]: i comes before j
    if not class_agnostic:
        before &= labels[:, :, None] == labels[:, None, :]
    counted = torch.where(before, torch.nan_to_num(iou, nan=0.0), 0.0)
    if count == 0:
        return scores.clone()
    falls = _falls(counted.amax(1), method, sigma)[:, :, None]
    terms = torch.where(before & (falls != 0), _falls(counted, method, sigma) / falls, 1.0)
    return scores * terms.amin(1)


def _falls(x: Tensor, method: str, sigma: float) -> Tensor:
    return 1.0 - x if method == "linear" else torch.exp(-sigma * (x * x))
