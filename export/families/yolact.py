"""YOLACT: prototypes and coefficients (Bolya et al., 2019, arXiv 1904.02689).

A head shared by all pyramid levels gives each anchor a class, a box and k coefficients; a second
branch makes k prototype masks of the whole picture. An instance's mask is their combination,

    mask = crop(sigmoid(Σ_k tanh(c_k) · prototype_k), box)

and boxes are suppressed by Fast NMS (`fast_nms.py`). `detect` is the paper's inference with as
many detections as there are, the reference of the exported graph in `yolact_graph.py`.

Canvases are not padded: anchors and prototypes divide the canvas evenly, whatever its size
(`MaskFrame.CANVAS_EVEN`), as the authors' program does with the square that it stretches each
picture to, unless anchors have strides of their own. A letterboxed picture is smaller than its
canvas: boxes are then clipped to the picture, as the authors' are to theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torchvision.ops import box_iou, clip_boxes_to_image

from ...core.masks import MaskFrame
from .one_stage import Detections, OneStage

__all__ = ["Anchors", "Yolact", "YolactHeads", "YolactInference", "YolactLevel", "decode"]

VARIANCES = (0.1, 0.2)  # of the codes for centres and for sides
MASK_STRIDE = 4
_PRIOR = 0.01  # the probability of an object before training


class YolactLevel(NamedTuple):
    """The head's outputs for one pyramid level; A anchors at each of `h x w` places.

    Attributes:
        logits: `[B, A · (C + 1), h, w]`, background first.
        codes: `[B, A · 4, h, w]`.
        coefficients: `[B, A · k, h, w]`, after tanh.
    """

    logits: Tensor
    codes: Tensor
    coefficients: Tensor


class YolactHeads(NamedTuple):
    """Everything that the layers say of a batch.

    Attributes:
        levels: one a pyramid level.
        prototypes: `[B, k, H', W']`.
        semantic: logits `[B, C, h, w]` of the finest level, while training.
    """

    levels: list[YolactLevel]
    prototypes: Tensor
    semantic: Tensor | None


@dataclass(frozen=True)
class Anchors:
    """Sides of the anchors, and how far apart they lie, in pixels.

    Attributes:
        scales: of each level.
        ratios: height over width, in the order of the head's channels.
        square: as in the authors' trained models, in which every anchor has the width that its
            ratio gives, and that as its height, too.
        strides: from one place of a level to the next, down and across, the first at half of it,
            as in mmdetection; None divides the picture evenly, as the authors' program does.
    """

    scales: tuple[float, ...] = (24, 48, 96, 192, 384)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    square: bool = False
    strides: tuple[float, ...] | None = None

    def sides(self, level: int) -> list[tuple[float, float]]:
        """Return width and height in pixels of the anchors of a level."""
        scale = self.scales[level]
        return [
            (scale / math.sqrt(r), scale / math.sqrt(r) if self.square else scale * math.sqrt(r))
            for r in self.ratios
        ]

    def boxes(self, shapes: Sequence[Sequence[int]], size: Sequence[int]) -> Tensor:
        """Return centre and sides `[N, 4]` in pixels.

        Args:
            shapes: height and width of each level's map.
            size: height and width of the canvas.
        """
        levels = []
        for level, (rows, columns) in enumerate(shapes):
            down, across = size[0] / rows, size[1] / columns
            if self.strides is not None:
                down = across = self.strides[level]
            y = (torch.arange(rows, dtype=torch.float32) + 0.5) * down
            x = (torch.arange(columns, dtype=torch.float32) + 0.5) * across
            centre = torch.stack([x.repeat(rows), y.repeat_interleave(columns)], 1)
            sides = torch.tensor(self.sides(level), dtype=torch.float32)
            centres = centre[:, None].expand(-1, len(sides), -1)
            levels.append(torch.cat([centres, sides.expand(len(centre), -1, -1)], -1).flatten(0, 1))
        return torch.cat(levels)


@dataclass(frozen=True)
class YolactInference:
    """Settings of inference.

    Attributes:
        score_threshold: class probabilities above it make candidates.
        iou_threshold: overlap above which the lower of two boxes goes.
        candidates: at most so many a class.
        level_candidates: anchors at most, of each level, that make candidates, the best by their
            best class, as in mmdetection; None for all.
        cross_class: suppress whatever the class.
        clip_first: whether boxes are cut to the picture before NMS, as in mmdetection.
    """

    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    candidates: int = 200
    level_candidates: int | None = None
    cross_class: bool = False
    clip_first: bool = False


class Yolact(OneStage):
    """The whole model; see the module's text.

    Attributes:
        anchors, inference: as given.
        anchors_given: whether they were, so that a checkpoint's project does not move them.
    """

    step = 1
    mask_frame = MaskFrame.CANVAS_EVEN

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        channels: int = 256,
        prototypes: int = 32,
        head_convs: int = 1,
        anchors: Anchors | None = None,
        inference: YolactInference | None = None,
        max_detections: int = 100,
    ) -> None:
        """Build the model with random heads.

        Args:
            backbone: pictures to maps of strides 8 and up, by name.
            num_classes: background included.
            channels: of the maps.
            prototypes: k.
            head_convs: convolutions before the predictions.
            anchors: None for the paper's.
            inference: None for the paper's.
            max_detections: in a picture.
        """
        super().__init__(backbone, num_classes, max_detections)
        self.anchors_given = anchors is not None
        self.anchors = anchors or Anchors()
        self.inference = inference or YolactInference()
        number = len(self.anchors.ratios)
        self.tower = nn.Sequential(*_convs(channels, head_convs))
        self.logits = nn.Conv2d(channels, number * num_classes, 3, padding=1)
        self.codes = nn.Conv2d(channels, number * 4, 3, padding=1)
        self.coefficients = nn.Conv2d(channels, number * prototypes, 3, padding=1)
        self.protonet = Protonet(channels, prototypes)
        self.semantic = nn.Conv2d(channels, num_classes - 1, 1)
        for layer in (self.logits, self.codes, self.coefficients, self.semantic):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            bias: Any = self.logits.bias
            bias[::num_classes] = math.log((1 - _PRIOR) / _PRIOR * (num_classes - 1))

    def heads(self, maps: Mapping[str, Tensor]) -> YolactHeads:
        """Return the raw outputs for the maps of a batch."""
        features = list(maps.values())
        levels = []
        for feature in features:
            x = self.tower(feature)
            levels.append(YolactLevel(self.logits(x), self.codes(x), self.coefficients(x).tanh()))
        semantic = self.semantic(features[0]) if self.training else None
        return YolactHeads(levels, self.protonet(features[0]), semantic)

    def detect(
        self, heads: YolactHeads, index: int, canvas: tuple[int, int], size: tuple[int, int]
    ) -> Detections:
        """Return what was found in picture `index`, as the authors' program does."""
        lengths = (self.num_classes, 4, heads.prototypes.shape[1])
        rows = [
            [_rows(values[index], length) for values, length in zip(level, lengths, strict=True)]
            for level in heads.levels
        ]
        logits, codes, coefficients = (torch.cat(part) for part in zip(*rows, strict=True))
        probabilities = logits.softmax(1)[:, 1:]
        best = probabilities.amax(1)
        certain = best > self.inference.score_threshold
        certain &= self._best_of_levels(best, [len(level[0]) for level in rows])
        anchors = self.anchors.boxes([level.codes.shape[-2:] for level in heads.levels], canvas)
        boxes = decode(codes[certain], anchors[certain])
        clipped = clip_boxes_to_image(boxes, size)
        compared = clipped if self.inference.clip_first else boxes
        kept, labels, scores = self._suppress(compared, probabilities[certain])
        boxes = clipped[kept]
        chosen = coefficients[certain][kept]
        masks = torch.einsum("nk,khw->nhw", chosen, heads.prototypes[index]).sigmoid()
        inside = _inside(boxes, masks.shape[-2:], canvas)
        return Detections(boxes, scores, labels + 1, masks * inside)

    def _best_of_levels(self, best: Tensor, counts: Sequence[int]) -> Tensor:
        """Return which anchors are among the best of their level, `counts` anchors each."""
        number = self.inference.level_candidates
        among = []
        for scores in best.split(list(counts)):
            order = scores.argsort(descending=True, stable=True)[:number]
            among.append(torch.zeros(len(scores), dtype=torch.bool).index_fill(0, order, True))
        return torch.cat(among)

    def _suppress(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fast NMS of one picture: indices, class columns and scores, best first."""
        settings = self.inference
        labels = torch.arange(scores.shape[1])
        if settings.cross_class:
            groups = [(scores.amax(1), scores.argmax(1))]
        else:
            groups = [(scores[:, c], labels[c].expand(len(scores))) for c in labels]
        found = []
        for score, label in groups:
            order = score.argsort(descending=True, stable=True)[: settings.candidates]
            order = order[score[order] > settings.score_threshold]
            found.append((order[self._unsuppressed(boxes[order])], label, score))
        kept = torch.cat([rows for rows, _, _ in found])
        label = torch.cat([all_labels[rows] for rows, all_labels, _ in found])
        score = torch.cat([all_scores[rows] for rows, _, all_scores in found])
        best = score.argsort(descending=True, stable=True)[: self.max_detections]
        return kept[best], label[best], score[best]

    def _unsuppressed(self, boxes: Tensor) -> Tensor:
        """Return which of `boxes`, best first, no better one overlaps."""
        if not len(boxes):
            return torch.zeros(0, dtype=torch.bool)
        overlap = box_iou(boxes, boxes).nan_to_num()  # of two without an area, 0
        return overlap.triu(1).amax(0) <= self.inference.iou_threshold


class Protonet(nn.Module):
    """The finest map to k prototypes of twice its resolution."""

    def __init__(self, channels: int, prototypes: int) -> None:
        """Build three convolutions, an upsampling, and two more."""
        super().__init__()
        self.before = nn.Sequential(*_convs(channels, 3))
        self.after = nn.Sequential(*_convs(channels, 1))
        self.last = nn.Conv2d(channels, prototypes, 1)
        nn.init.xavier_uniform_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, k, 2 h, 2 w]`, none negative."""
        x = F.interpolate(self.before(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        return torch.relu(self.last(self.after(x)))


def decode(codes: Tensor, anchors: Tensor) -> Tensor:
    """Return boxes xyxy `[..., 4]` from codes and anchors, centre and sides `[..., 4]`."""
    centre = anchors[..., :2] + codes[..., :2] * VARIANCES[0] * anchors[..., 2:]
    half = 0.5 * anchors[..., 2:] * torch.exp(codes[..., 2:] * VARIANCES[1])
    return torch.cat([centre - half, centre + half], -1)


def _convs(channels: int, number: int) -> list[nn.Module]:
    """Return `number` 3x3 convolutions, each with a ReLU."""
    layers: list[nn.Module] = []
    for _ in range(number):
        conv = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.xavier_uniform_(conv.weight)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        layers += [conv, nn.ReLU()]
    return layers


def _rows(values: Tensor, length: int) -> Tensor:
    """Turn one picture's `[A · length, h, w]` into `[h · w · A, length]`."""
    return values.permute(1, 2, 0).reshape(-1, length)


def _inside(boxes: Tensor, shape: Sequence[int], canvas: tuple[int, int]) -> Tensor:
    """Return `[n, h, w]`, whether a mask pixel is in its box, or at most one pixel outside.

    A mask pixel of `shape` over `canvas` is inside as in the authors' `crop`: its number, not
    its centre, is compared with the box's edges in mask pixels.
    """
    y, x = torch.arange(shape[0])[:, None], torch.arange(shape[1])
    scale = boxes.new_tensor([shape[1] / canvas[1], shape[0] / canvas[0]]).repeat(2)
    x1, y1, x2, y2 = (boxes * scale).T[..., None, None]
    return (x >= x1 - 1) & (x < x2 + 1) & (y >= y1 - 1) & (y < y2 + 1)
