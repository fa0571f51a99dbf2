"""YOLACT as a graph of static shapes, for export; `yolact.py` has the model and its meaning.

    images → normalise → pyramid → head, prototypes → softmax → the best K of each class
    → decoded → Fast NMS → D detections → coefficients x prototypes → masks at a quarter, cropped

Fast NMS is a matrix by itself, so nothing here needs an operator of `maskrt`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...core import InputSpec
from .fast_nms import fast_nms
from .letterboxed import clip_boxes
from .one_stage import OneStageGraph, quarter
from .yolact import MASK_STRIDE, Yolact, YolactHeads, decode

__all__ = ["YolactGraph"]


class YolactGraph(OneStageGraph):
    """`images uint8 [B, H, W, 3]` → boxes, scores, labels, masks, count."""

    anchors: Tensor

    def __init__(self, model: Yolact, spec: InputSpec) -> None:
        """Take over `model`'s layers and lay out the anchors of a `spec`-sized picture."""
        super().__init__(model, spec)
        size = (spec.height, spec.width)
        with torch.no_grad():
            maps = self.model.backbone(torch.zeros(1, 3, *size))
            heads = self.model.heads(maps)
        shapes = [level.codes.shape[-2:] for level in heads.levels]
        self.register_buffer("anchors", model.anchors.boxes(shapes, size))
        self.mask_size = quarter(size)
        self._prepare_grid(heads.prototypes.shape[-2:])

    def detect(self, heads: YolactHeads, corner: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels int32, masks and count int32 of a batch."""
        settings = self.model.inference
        logits, codes, coefficients = self._rows(heads)
        boxes = decode(codes, self.anchors)
        found, scores, columns, count = fast_nms(
            clip_boxes(boxes, corner) if settings.clip_first else boxes,
            logits.softmax(2)[..., 1:],
            iou_threshold=settings.iou_threshold,
            score_threshold=settings.score_threshold,
            candidates=settings.candidates,
            detections=self.model.max_detections,
            cross_class=settings.cross_class,
        )
        real = scores > 0
        boxes = decode(_pick(codes, found), self.anchors[found])
        boxes = clip_boxes(boxes, corner) * real[..., None]
        prototypes = self._on_quarter_grid(heads.prototypes)
        products = torch.matmul(_pick(coefficients, found), prototypes.flatten(2))
        masks = products.reshape(*found.shape, *self.mask_size).sigmoid()
        masks = masks * (self._inside(boxes) & real[..., None, None])
        labels = torch.where(real, columns + 1, 0).to(torch.int32)
        return boxes, scores.clamp(min=0), labels, masks, count.to(torch.int32)

    def _rows(self, heads: YolactHeads) -> list[Tensor]:
        """Return logits, codes and coefficients `[B, N, ·]`, in the order of the anchors."""
        lengths = (self.model.num_classes, 4, heads.prototypes.shape[1])
        batch = heads.prototypes.shape[0]
        return [
            torch.cat(
                [level[part].permute(0, 2, 3, 1).reshape(batch, -1, n) for level in heads.levels], 1
            )
            for part, n in enumerate(lengths)
        ]

    def _prepare_grid(self, shape: torch.Size) -> None:
        """Work out, of each axis, the two prototype cells and the weight of each mask cell."""
        self.resampled = False
        axes = zip("yx", self.mask_size, shape, (self.spec.height, self.spec.width), strict=True)
        for axis, cells, length, pixels in axes:
            centre = torch.arange(cells) * MASK_STRIDE + MASK_STRIDE / 2
            place = (centre * length / pixels - 0.5).clamp(0, length - 1)
            low = place.floor().long().clamp(max=max(length - 2, 0))
            self.register_buffer(f"{axis}_low", low)
            self.register_buffer(f"{axis}_weight", place - low)
            self.resampled |= length * MASK_STRIDE != pixels

    def _on_quarter_grid(self, x: Tensor) -> Tensor:
        """Resample `[B, k, H', W']` to cells of 4 x 4 pixels."""
        if not self.resampled:
            return x
        for axis, dim in (("y", 2), ("x", 3)):
            low, weight = getattr(self, f"{axis}_low"), getattr(self, f"{axis}_weight")
            weight = weight[:, None] if axis == "y" else weight
            x = x.index_select(dim, low) * (1 - weight) + x.index_select(dim, low + 1) * weight
        return x

    def _inside(self, boxes: Tensor) -> Tensor:
        """Return `[B, D, h, w]`, whether a mask pixel is in its box, or at most one outside."""
        x1, y1, x2, y2 = (edge[..., None, None] for edge in (boxes / MASK_STRIDE).unbind(-1))
        y = torch.arange(self.mask_size[0], dtype=torch.float32)[:, None]
        x = torch.arange(self.mask_size[1], dtype=torch.float32)
        return (x >= x1 - 1) & (x < x2 + 1) & (y >= y1 - 1) & (y < y2 + 1)


def _pick(rows: Tensor, places: Tensor) -> Tensor:
    """Return `rows [B, N, C]` at `places [B, K]`: `[B, K, C]`."""
    return torch.gather(rows, 1, places[..., None].expand(-1, -1, rows.shape[2]))
