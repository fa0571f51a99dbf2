"""YOLACT as a graph of static shapes, for export; `yolact.py` has the model and its meaning.

    images → normalise → pyramid → head, prototypes → softmax → the best K of each class
    → decoded → Fast NMS → D detections → coefficients x prototypes → masks, cropped

Fast NMS is a matrix by itself, so nothing here needs an operator of `maskrt`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...core import InputSpec
from .fast_nms import fast_nms
from .letterboxed import clip_boxes
from .one_stage import OneStageGraph
from .yolact import Yolact, YolactHeads, decode

__all__ = ["YolactGraph"]


class YolactGraph(OneStageGraph):
    """`images uint8 [B, H, W, 3]` → boxes, scores, labels, masks, count."""

    anchors: Tensor
    mask_scale: Tensor

    def __init__(self, model: Yolact, spec: InputSpec) -> None:
        """Take over `model`'s layers and lay out the anchors of a `spec`-sized picture."""
        super().__init__(model, spec)
        size = (spec.height, spec.width)
        with torch.no_grad():
            maps = self.model.backbone(torch.zeros(1, 3, *size))
            heads = self.model.heads(maps)
        shapes = [level.codes.shape[-2:] for level in heads.levels]
        self.register_buffer("anchors", model.anchors.boxes(shapes, size))
        self.counts = [level.codes[0].numel() // 4 for level in heads.levels]
        self.mask_size = tuple(heads.prototypes.shape[-2:])
        scale = [masks / pixels for masks, pixels in zip(self.mask_size, size, strict=True)]
        self.register_buffer("mask_scale", torch.tensor([*scale[::-1], *scale[::-1]]))

    def detect(self, heads: YolactHeads, corner: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels int32, masks and count int32 of a batch."""
        settings = self.model.inference
        logits, codes, coefficients = self._rows(heads)
        boxes = decode(codes, self.anchors)
        found, scores, columns, count = fast_nms(
            clip_boxes(boxes, corner) if settings.clip_first else boxes,
            self._best_of_levels(logits.softmax(2)[..., 1:]),
            iou_threshold=settings.iou_threshold,
            score_threshold=settings.score_threshold,
            candidates=settings.candidates,
            detections=self.model.max_detections,
            cross_class=settings.cross_class,
        )
        real = scores > 0
        boxes = decode(_pick(codes, found), self.anchors[found])
        boxes = clip_boxes(boxes, corner) * real[..., None]
        products = torch.matmul(_pick(coefficients, found), heads.prototypes.flatten(2))
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

    def _best_of_levels(self, scores: Tensor) -> Tensor:
        """Return scores `[B, N, C]`, 0 for anchors that are not among the best of their level."""
        number = self.model.inference.level_candidates
        if number is None or number >= max(self.counts):
            return scores
        kept = []
        for level in scores.split(self.counts, 1):
            best = level.amax(2)
            if number < best.shape[1]:
                least = best.topk(number, 1).values[:, -1:]
                level = level * (best >= least)[..., None]
            kept.append(level)
        return torch.cat(kept, 1)

    def _inside(self, boxes: Tensor) -> Tensor:
        """Return `[B, D, h, w]`, whether a mask pixel is in its box, or at most one outside."""
        x1, y1, x2, y2 = (edge[..., None, None] for edge in (boxes * self.mask_scale).unbind(-1))
        y = torch.arange(self.mask_size[0], dtype=torch.float32)[:, None]
        x = torch.arange(self.mask_size[1], dtype=torch.float32)
        return (x >= x1 - 1) & (x < x2 + 1) & (y >= y1 - 1) & (y < y2 + 1)


def _pick(rows: Tensor, places: Tensor) -> Tensor:
    """Return `rows [B, N, C]` at `places [B, K]`: `[B, K, C]`."""
    return torch.gather(rows, 1, places[..., None].expand(-1, -1, rows.shape[2]))
