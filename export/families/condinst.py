"""CondInst: conditional convolutions for instance segmentation (Tian et al., arXiv 2003.05664).

FCOS finds the boxes; at each location a controller writes the 169 parameters of a network of three
1x1 convolutions, which turns features common to all instances into the mask of this one:

    relative = ((x, y)_location - (x, y)_pixel) / size of interest of the location's level
    mask     = sigmoid(upsample₂(W₃ relu(W₂ relu(W₁ [relative; features] + b₁) + b₂) + b₃))

`detect` is the paper's inference with as many instances as there are, the reference of the exported
graph in `condinst_graph.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from .fcos import FCOSHead, LevelPrediction, boxes_from_distances, locations
from .one_stage import Detections, OneStage, quarter

__all__ = [
    "CondInst",
    "CondInstHeads",
    "CondInstInference",
    "MaskBranch",
    "aligned_bilinear",
    "split_parameters",
]

MASK_STRIDE = 4
FEATURE_STRIDE = 8
FEATURES = 8  # channels that the mask branch makes
HIDDEN = 8  # channels inside the network that the controller writes
WEIGHTS = ((HIDDEN, FEATURES + 2), (HIDDEN, HIDDEN), (1, HIDDEN))
PARAMETERS = sum(rows * columns + rows for rows, columns in WEIGHTS)  # 169


@dataclass(frozen=True)
class CondInstInference:
    """Settings of inference.

    Attributes:
        score_threshold: a class probability above it makes a candidate.
        threshold_product: whether it is the product with centerness that has to be above it, as
            in AdelaiDet's configurations of CondInst.
        iou_threshold: overlap above which the lower of two boxes of a class goes.
        candidates: at most so many a level.
        rank_product: whether they are the best by that product, else by class probability, as in
            mmdetection.
        root_scores: whether a score is the root of class probability times centerness, as in
            AdelaiDet, or the product, as in mmdetection.
        clip_first: whether boxes are cut to the picture before NMS, as in mmdetection.
    """

    score_threshold: float = 0.05
    iou_threshold: float = 0.6
    candidates: int = 1000
    root_scores: bool = True
    threshold_product: bool = False
    rank_product: bool = True
    clip_first: bool = False


class CondInstHeads(NamedTuple):
    """Everything that the layers say of a batch.

    Attributes:
        levels: one a pyramid level.
        parameters: `[B, 169, h, w]` of each level.
        features: `[B, 8, h, w]` at stride 8, which all masks are made of.
    """

    levels: list[LevelPrediction]
    parameters: list[Tensor]
    features: Tensor


class MaskBranch(nn.Module):
    """Pyramid levels of strides 8, 16, 32 to the 8 channels that all masks are made of."""

    def __init__(self, inputs: int, channels: int = 128, convs: int = 4) -> None:
        """Build a convolution for each level, and a tower on their sum."""
        super().__init__()
        self.refine = nn.ModuleList(_conv_bn_relu(inputs, channels) for _ in range(3))
        self.tower = nn.Sequential(*(_conv_bn_relu(channels, channels) for _ in range(convs)))
        self.last = nn.Conv2d(channels, FEATURES, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return `[B, 8, h, w]` at stride 8."""
        total = self.refine[0](features[0])
        for refine, feature in zip(list(self.refine)[1:], features[1:3], strict=True):
            refined = refine(feature)
            total = total + aligned_bilinear(refined, total.shape[-1] // refined.shape[-1])
        return self.last(self.tower(total))


class CondInst(OneStage):
    """The whole model; see the module's text.

    Attributes:
        strides, sizes_of_interest, inference: as given.
        mask_frame: where masks lie; AdelaiDet and mmdetection train them half a pixel late.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        channels: int = 256,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        sizes_of_interest: Sequence[int] = (64, 128, 256, 512, 1024),
        convs: int = 4,
        norm: bool = True,
        mask_channels: int = 128,
        inference: CondInstInference | None = None,
        max_detections: int = 100,
    ) -> None:
        """Build the model with random heads.

        Args:
            backbone: pictures to maps of strides 8 and up, by name.
            num_classes: background included.
            channels: of the maps.
            strides: of the maps.
            sizes_of_interest: pixels that relative coordinates are divided by, one a level; also
                the largest distance from a location to a side of its box, while training.
            convs: in each tower of the head, and in the mask branch.
            norm: whether the head has group normalisation.
            mask_channels: inside the mask branch.
            inference: None for the paper's.
            max_detections: in a picture.
        """
        super().__init__(backbone, num_classes, max_detections)
        self.head = FCOSHead(channels, num_classes - 1, len(strides), convs=convs, norm=norm)
        self.controller = nn.Conv2d(channels, PARAMETERS, 3, padding=1)
        nn.init.normal_(self.controller.weight, std=0.01)
        nn.init.zeros_(self.controller.bias)  # type: ignore[arg-type]
        self.mask_branch = MaskBranch(channels, mask_channels, convs)
        self.strides, self.sizes_of_interest = tuple(strides), tuple(sizes_of_interest)
        self.inference = inference or CondInstInference()

    def heads(self, maps: Mapping[str, Tensor]) -> CondInstHeads:
        """Return the raw outputs for the maps of a batch."""
        features = list(maps.values())
        levels = self.head(features)
        parameters = [self.controller(level.tower) for level in levels]
        return CondInstHeads(levels, parameters, self.mask_branch(features))

    def detect(
        self, heads: CondInstHeads, index: int, canvas: tuple[int, int], size: tuple[int, int]
    ) -> Detections:
        """Return what was found in picture `index`, with as many candidates as there are.

        AdelaiDet clips boxes when all is done, and leaves out what is empty then. mmdetection clips
        and leaves out first.
        """
        levels = [self._candidates(heads, index, level) for level in range(len(heads.levels))]
        found = {name: torch.cat([level[name] for level in levels]) for name in levels[0]}
        if self.inference.clip_first:
            found = _seen(found, size)
        kept = _nms_per_label(
            found["boxes"], found["scores"], found["labels"], self.inference.iou_threshold
        )
        best = {name: values[kept[: self.max_detections]] for name, values in found.items()}
        best = _seen(best, size)
        logits = self.masks(
            heads.features[index], best["parameters"], best["points"], best["sizes"]
        )
        rows, columns = quarter(canvas)
        masks = logits.sigmoid()[:, :rows, :columns]
        return Detections(best["boxes"], best["scores"], best["labels"], masks)

    def _candidates(self, heads: CondInstHeads, index: int, level: int) -> dict[str, Tensor]:
        """Return the best candidates of one level of one picture."""
        logits, distances, centerness, _ = (values[index] for values in heads.levels[level])
        stride = self.strides[level]
        probability = logits.sigmoid().flatten(1).T
        score = probability * centerness.sigmoid().flatten()[:, None]
        limited = score if self.inference.threshold_product else probability
        place, column = torch.nonzero(limited > self.inference.score_threshold, as_tuple=True)
        ranked = score if self.inference.rank_product else probability
        score, ranked = score[place, column], ranked[place, column]
        best = ranked.argsort(descending=True, stable=True)[: self.inference.candidates]
        place, column, score = place[best], column[best], score[best]
        height, width = logits.shape[-2:]
        points = locations(height, width, stride)[place]
        return {
            "boxes": boxes_from_distances(points, distances.flatten(1).T[place] * stride),
            "scores": score.sqrt() if self.inference.root_scores else score,
            "labels": column + 1,
            "parameters": heads.parameters[level][index].flatten(1).T[place],
            "points": points,
            "sizes": torch.full_like(score, self.sizes_of_interest[level]),
        }

    @staticmethod
    def masks(features: Tensor, parameters: Tensor, points: Tensor, sizes: Tensor) -> Tensor:
        """Run each instance's own network on one picture's features.

        Args:
            features: `[8, h, w]` at stride 8.
            parameters: `[n, 169]`.
            points: `[n, 2]`, the pixels at which the instances were found.
            sizes: `[n]`, the sizes of interest of their levels.

        Returns:
            Logits `[n, 2h, 2w]`.
        """
        number, (height, width) = len(parameters), features.shape[-2:]
        if number == 0:
            return features.new_zeros(0, 2 * height, 2 * width)
        pixels = locations(height, width, FEATURE_STRIDE).to(features.device)
        relative = (points[:, None] - pixels[None]) / sizes[:, None, None]
        relative = relative.transpose(1, 2).reshape(number, 2, height, width)
        x = torch.cat([relative, features.expand(number, -1, -1, -1)], 1)
        x = x.reshape(1, -1, height, width)
        for index, (weight, bias) in enumerate(split_parameters(parameters)):
            kernel = weight.reshape(-1, weight.shape[-1], 1, 1)
            x = F.conv2d(x, kernel, bias.flatten(), groups=number)
            x = torch.relu(x) if index + 1 < len(WEIGHTS) else x
        return aligned_bilinear(x.transpose(0, 1), FEATURE_STRIDE // MASK_STRIDE)[:, 0]


def split_parameters(parameters: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Cut `[..., 169]` into each layer's weight `[..., rows, columns]` and bias `[..., rows]`.

    All weights stand before all biases, as in AdelaiDet.
    """
    lengths = [rows * columns for rows, columns in WEIGHTS] + [rows for rows, _ in WEIGHTS]
    parts = parameters.split(lengths, -1)
    weights = [
        part.unflatten(-1, shape)
        for part, shape in zip(parts[: len(WEIGHTS)], WEIGHTS, strict=True)
    ]
    return list(zip(weights, parts[len(WEIGHTS) :], strict=True))


def aligned_bilinear(x: Tensor, factor: int) -> Tensor:
    """Upsample `[B, C, h, w]` by a whole factor, source pixel i at target pixel `factor · i`.

    The result is moved by half a factor, so that pixel centres at `stride / 2` stay where they are.
    """
    if factor == 1:
        return x
    height, width = x.shape[-2:]
    x = F.pad(x, (0, 1, 0, 1), mode="replicate")
    size = (factor * height + 1, factor * width + 1)
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    x = F.pad(x, (factor // 2, 0, factor // 2, 0), mode="replicate")
    return x[:, :, : factor * height, : factor * width]


def _seen(found: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """Return what has a part in the picture, boxes clipped to it."""
    boxes = clip_boxes_to_image(found["boxes"], size)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return {name: values[seen] for name, values in {**found, "boxes": boxes}.items()}


def _nms_per_label(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices that greedy suppression within each label keeps, best first."""
    kept = [
        rows[torchvision.ops.nms(boxes[rows], scores[rows], iou_threshold)]
        for rows in (torch.nonzero(labels == label)[:, 0] for label in labels.unique())
    ]
    indices = torch.cat(kept) if kept else labels.new_zeros(0)
    return indices[scores[indices].argsort(descending=True, stable=True)]


def _conv_bn_relu(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())
