"""A torchvision Mask R-CNN's layers and anchors, taken apart for others to put together.

Class 0 becomes the last one, as detectron2 and mmdetection count; the background has no box codes.
"""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Layers"]


class Layers(nn.Module):
    """Layers and constants of `model`, which was made to detect something in pictures `size`."""

    def __init__(self, model: Any, size: tuple[int, int], *, masks: bool = True) -> None:
        super().__init__()
        self.backbone, self.head, self.rpn = model.backbone, model.rpn.head, model.rpn
        self.box_head, self.heads = model.roi_heads.box_head, model.roi_heads
        predictor = model.roi_heads.box_predictor
        self.classes = predictor.cls_score.out_features - 1
        self.score = _rows(predictor.cls_score, [*range(1, self.classes + 1), 0])
        self.codes = _rows(predictor.bbox_pred, list(range(4, 4 * self.classes + 4)))
        self.names = model.roi_heads.box_roi_pool.featmap_names
        self.bins = model.roi_heads.box_roi_pool.output_size[0]
        self.mask_bins = model.roi_heads.mask_roi_pool.output_size[0] if masks else 0
        self.mask_logits = _mask_rows(model) if masks else None
        self.anchors = _anchors(model, size)
        mean, std = model.transform.image_mean, model.transform.image_std
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1))

    def mask_head(self, pooled: Tensor) -> Tensor:
        """Return mask logits `[N, classes, h, w]`."""
        assert self.mask_logits is not None
        predictor = self.heads.mask_predictor
        hidden = self.heads.mask_head(pooled)
        return self.mask_logits(predictor.relu(predictor.conv5_mask(hidden)))


def _rows(layer: nn.Linear, order: list[int]) -> nn.Linear:
    chosen = nn.Linear(layer.in_features, len(order))
    chosen.weight.data, chosen.bias.data = layer.weight.data[order], layer.bias.data[order]
    return chosen


def _mask_rows(model: Any) -> nn.Conv2d:
    last = model.roi_heads.mask_predictor[-1]
    chosen = nn.Conv2d(last.in_channels, last.out_channels - 1, 1)
    chosen.weight.data, chosen.bias.data = last.weight.data[1:], last.bias.data[1:]
    return chosen


def _anchors(model: Any, size: tuple[int, int]) -> list[Tensor]:
    from torchvision.models.detection.image_list import ImageList

    picture = torch.zeros(1, 3, *size)
    maps = list(model.backbone(picture).values())
    (anchors,) = model.rpn.anchor_generator(ImageList(picture, [size]), maps)
    each = model.rpn.anchor_generator.num_anchors_per_location()
    counts = [m.shape[-2] * m.shape[-1] * n for m, n in zip(maps, each, strict=True)]
    return [part.clone() for part in anchors.split(counts)]
