"""MatrixNMS in plain PyTorch: the definition that every other body is compared with."""

import torch
from torch import Tensor

__all__ = ["matrix_nms"]


def matrix_nms(
    iou: Tensor, scores: Tensor, labels: Tensor, *, method: str, sigma: float, class_agnostic: int
) -> Tensor:
    """Decay `scores [B, N]` by `iou [B, N, N]` among `labels int32 [B, N]`: float `[B, N]`."""
    count = scores.shape[1]
    if count == 0:
        return scores.clone()
    theirs, mine = scores[:, :, None], scores[:, None, :]
    earlier = torch.arange(count)[:, None] < torch.arange(count)
    before = (theirs > mine) | ((theirs == mine) & earlier)  # [i, j]: i comes before j
    if not class_agnostic:
        before &= labels[:, :, None] == labels[:, None, :]
    overlap = torch.where(before, torch.nan_to_num(iou, nan=0.0).clamp(0.0, 1.0), 0.0)
    compensate = overlap.amax(1)[:, :, None]
    if method == "linear":
        term = (1.0 - overlap) / (1.0 - compensate)
        before &= compensate < 1.0
    else:
        term = torch.exp(-sigma * (overlap * overlap - compensate * compensate))
    return scores * torch.where(before, term, 1.0).amin(1)
