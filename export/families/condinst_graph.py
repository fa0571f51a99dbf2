"""CondInst as a graph of static shapes, for export; `condinst.py` has the model and its meaning.

    images → normalise, pad → pyramid → head, controller, mask branch
    → per level: the best candidates → the best of all → NMS per label → D detections
    → each detection's parameters → three batched matrix products → masks at a quarter

Relative coordinates are linear in the pixel, so the first layer of an instance's network is one
product of its weights with `[features; x; y; 1]`, which all instances share:

    W₁ [(p - q) / s; f] + b₁ = [W_f, -W_q / s, b₁ + W_q p / s] [f; q; 1]

One step differs in form from the paper's: the candidates of all levels are cut to the best
`MAX_CANDIDATES` before NMS. What lies beyond is reached only if NMS leaves fewer than `detections`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...core import InputSpec
from ...plugins.symbolic import batched_nms
from .condinst import (
    FEATURE_STRIDE,
    MASK_STRIDE,
    CondInst,
    CondInstHeads,
    aligned_bilinear,
    split_parameters,
)
from .fcos import LevelPrediction, boxes_from_distances, flatten_level, locations
from .letterboxed import clip_boxes
from .one_stage import OneStageGraph, padded, quarter

__all__ = ["CondInstGraph"]

MAX_CANDIDATES = 2048
_REJECTED = -1.0


class CondInstGraph(OneStageGraph):
    """`images uint8 [B, H, W, 3]` → boxes, scores, labels, masks, count."""

    points: Tensor
    strides: Tensor
    sizes: Tensor
    pixels: Tensor

    def __init__(self, model: CondInst, spec: InputSpec) -> None:
        """Take over `model`'s layers and lay out the locations of a `spec`-sized picture."""
        super().__init__(model, spec)
        size = (spec.height, spec.width)
        with torch.no_grad():
            heads = self.model.heads(self.model.backbone(padded(torch.zeros(1, 3, *size))))
        shapes = [level.logits.shape[-2:] for level in heads.levels]
        counts = torch.tensor([height * width for height, width in shapes])
        points = [locations(h, w, s) for (h, w), s in zip(shapes, model.strides, strict=True)]
        self.register_buffer("points", torch.cat(points))
        for name, values in (("strides", model.strides), ("sizes", model.sizes_of_interest)):
            column = torch.tensor(values, dtype=torch.float32).repeat_interleave(counts)
            self.register_buffer(name, column[:, None])
        height, width = heads.features.shape[-2:]
        grid = locations(height, width, FEATURE_STRIDE).T
        self.register_buffer("pixels", torch.cat([grid, torch.ones(1, grid.shape[1])]))
        self.mask_size = quarter(size)

    def detect(self, heads: CondInstHeads, corner: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels int32, masks and count int32 of a batch."""
        levels, parameters, features = heads
        scores, places, labels = self._candidates(levels)
        distances = torch.cat([flatten_level(level.distances) for level in levels], 1)
        distances_px = _pick(distances, places) * self.strides[places]
        boxes = boxes_from_distances(self.points[places], distances_px)
        inference = self.model.inference
        if inference.clip_first:
            boxes = clip_boxes(boxes, corner)
            scores = torch.where(_has_area(boxes), scores, _REJECTED)
        boxes, scores, labels, kept, count = batched_nms(
            boxes,
            scores,
            labels.to(torch.int32),
            iou_threshold=inference.iou_threshold,
            score_threshold=_REJECTED / 2,
            max_outputs=min(self.model.max_detections, scores.shape[1]),
            class_agnostic=0,
        )
        if not inference.clip_first:
            boxes = clip_boxes(boxes, corner)
            order, count = _without_empty(boxes, scores, count)
            boxes, scores = _pick(boxes, order), torch.gather(scores, 1, order)
            labels, kept = torch.gather(labels, 1, order), torch.gather(kept, 1, order)
        places = torch.gather(places, 1, kept.to(torch.int64))
        written = _pick(torch.cat([flatten_level(level) for level in parameters], 1), places)
        masks = self._masks(features, written, self.points[places], self.sizes[places])
        real = torch.arange(masks.shape[1]) < count[:, None]
        boxes, scores, labels = boxes * real[..., None], scores * real, labels * real
        return boxes, scores, labels, masks * real[..., None, None], count

    def _candidates(self, levels: list[LevelPrediction]) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores `[B, K]`, -1 for none, with their places among all locations and labels."""
        inference = self.model.inference
        scores, places, labels, first = [], [], [], 0
        for level in levels:
            probability = flatten_level(level.logits).sigmoid()
            score = probability * flatten_level(level.centerness).sigmoid()
            limited = score if inference.threshold_product else probability
            ranked = score if inference.rank_product else probability
            ranked = torch.where(limited > inference.score_threshold, ranked, _REJECTED)
            classes = score.shape[2]
            best, index = ranked.flatten(1).topk(min(inference.candidates, score[0].numel()))
            if not inference.rank_product:
                product = torch.gather(score.flatten(1), 1, index)
                best = torch.where(best > _REJECTED / 2, product, _REJECTED)
            place = torch.div(index, classes, rounding_mode="floor")
            scores.append(best)
            places.append(first + place)
            labels.append(index - place * classes + 1)
            first += score.shape[1]
        best, place, label = (torch.cat(parts, 1) for parts in (scores, places, labels))
        if best.shape[1] > MAX_CANDIDATES:
            best, index = best.topk(MAX_CANDIDATES)
            place, label = torch.gather(place, 1, index), torch.gather(label, 1, index)
        if inference.root_scores:
            best = torch.where(best > 0, best.clamp(min=0).sqrt(), best)
        return best, place, label

    def _masks(self, features: Tensor, parameters: Tensor, points: Tensor, sizes: Tensor) -> Tensor:
        """Return probabilities `[B, D, ceil(H / 4), ceil(W / 4)]`.

        Args:
            features: `[B, 8, h, w]`.
            parameters: `[B, D, 169]`.
            points: `[B, D, 2]`.
            sizes: `[B, D, 1]`.
        """
        (batch, number), (height, width) = parameters.shape[:2], features.shape[-2:]
        (w1, b1), (w2, b2), (w3, b3) = split_parameters(parameters)
        by_pixel = w1[..., :2] / sizes[..., None]
        shift = b1 + (by_pixel * points[:, :, None]).sum(-1)
        weights = torch.cat([w1[..., 2:], -by_pixel, shift[..., None]], -1)
        shared = torch.cat([features.flatten(2), self.pixels.expand(batch, -1, -1)], 1)
        x = torch.relu(torch.matmul(weights.flatten(1, 2), shared))
        x = x.reshape(batch, number, -1, height * width)
        x = torch.relu(torch.matmul(w2, x) + b2[..., None])
        x = torch.matmul(w3, x) + b3[..., None]
        logits = x.reshape(batch, number, height, width)
        masks = aligned_bilinear(logits, FEATURE_STRIDE // MASK_STRIDE).sigmoid()
        return masks[:, :, : self.mask_size[0], : self.mask_size[1]]


def _has_area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).amin(-1) > 0


def _without_empty(boxes: Tensor, scores: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return places `[B, D]` with those of boxes that have an area first, and how many they are."""
    number = boxes.shape[1]
    place = torch.arange(number)
    seen = _has_area(boxes) & (place < count[:, None])
    rank = torch.where(seen, number, 0) - place
    order = rank.to(torch.float32).topk(number).indices
    return order, seen.sum(1).to(torch.int32)


def _pick(rows: Tensor, places: Tensor) -> Tensor:
    """Return `rows [B, N, C]` at `places [B, K]`: `[B, K, C]`."""
    return torch.gather(rows, 1, places[..., None].expand(-1, -1, rows.shape[2]))
