"""detectron2's R50-FPN and R101-FPN Mask R-CNN as torchvision's, part by part.

                   torchvision                          detectron2
    anchors        rounded to whole pixels; strides     not rounded; strides 4 to 64
                   from the map's size
    RoIAlign       half a pixel off, 2 x 2 samples      aligned, as many samples as pixels
    level of box   log₂ + 1e-6                          log₂
    pictures       RGB, mean and deviation              BGR, mean
    blocks         stride in the 3x3                    stride in the first 1x1
    background     class 0, with box and mask rows      the last class, without
    proposals      ordered by sigmoid(objectness)       by objectness
    masks          pasted at whole pixels               sampled in the box as it is

The first three are the parts below; `translate` puts pictures, background and order right by
changing weights, and the manifest says how masks are pasted (`MaskPaste`). What stays
torchvision's: detections with a side below a hundredth of a pixel are dropped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, roi_align

from ...core import InputError
from .backbones import resnet_fpn
from .checkpoints import DETECTRON2_FPN, Layout, renamed, stride_in_first

__all__ = ["AlignedRoIAlign", "FixedAnchors", "detectron2_mask_rcnn", "is_detectron2", "translate"]

_STRIDES = (4, 8, 16, 32, 64)
_SIZES = (32, 64, 128, 256, 512)
_RATIOS = (0.5, 1.0, 2.0)
_MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
_CELL_ANCHORS = "proposal_generator.anchor_generator.cell_anchors"
_OBJECTNESS_SCALE = 8  # a power of two: exact
_NOT_EMPTY_PX = 1e-9  # detectron2 keeps proposals with sides above 0

_LAYOUT = Layout(
    "detectron2",
    "proposal_generator.rpn_head.objectness_logits.weight",
    (
        (r"proposal_generator\.rpn_head\.conv\.(.+)", r"rpn.head.conv.0.0.\1"),
        (r"proposal_generator\.rpn_head\.objectness_logits\.(.+)", r"rpn.head.cls_logits.\1"),
        (r"proposal_generator\.rpn_head\.anchor_deltas\.(.+)", r"rpn.head.bbox_pred.\1"),
        (
            r"roi_heads\.box_head\.fc([12])\.(.+)",
            lambda m: f"roi_heads.box_head.fc{int(m[1]) + 5}.{m[2]}",
        ),
        (
            r"roi_heads\.mask_head\.mask_fcn([1-4])\.(.+)",
            lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.0.{m[2]}",
        ),
        (r"roi_heads\.mask_head\.deconv\.(.+)", r"roi_heads.mask_predictor.conv5_mask.\1"),
        (r"roi_heads\.mask_head\.predictor\.(.+)", r"roi_heads.mask_predictor.mask_fcn_logits.\1"),
        *DETECTRON2_FPN,
    ),
    lambda model, weights: _rearranged(weights),
    left_out=rf"{re.escape(_CELL_ANCHORS)}\.\d|pixel_(mean|std)",
)
_BACKGROUND_ROWS = {  # where background comes from the end, or has rows of zeros put before
    "roi_heads.box_predictor.cls_score": None,
    "roi_heads.box_predictor.bbox_pred": 4,
    "roi_heads.mask_predictor.mask_fcn_logits": 1,
}


class FixedAnchors(AnchorGenerator):
    """Anchors as detectron2's: sides not rounded, a level's stride whatever the picture's size."""

    def __init__(self) -> None:
        """Keep detectron2's defaults for FPN."""
        super().__init__(tuple((s,) for s in _SIZES), (_RATIOS,) * len(_SIZES))
        self.cell_anchors = [_cell_anchors(size) for size in _SIZES]

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return the anchors of each picture, over all levels."""
        sizes = [list(map_.shape[-2:]) for map_ in feature_maps]
        strides = [[torch.tensor(s), torch.tensor(s)] for s in _STRIDES[: len(sizes)]]
        anchors = torch.cat(self.grid_anchors(sizes, strides))
        return [anchors for _ in image_list.image_sizes]


class AlignedRoIAlign(MultiScaleRoIAlign):
    """RoIAlign without the half pixel, with one sample a feature pixel."""

    aligned = True

    def __init__(self, output_size: int) -> None:
        """Pool from the four finest maps."""
        super().__init__(["0", "1", "2", "3"], output_size, sampling_ratio=0)

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Return `[N, C, size, size]` of the boxes of all pictures."""
        super().forward(x, [b[:0] for b in boxes], image_shapes)  # learns scales and levels
        mapper: Any = self.map_levels
        mapper.eps = 0.0
        maps = [x[name] for name in self.featmap_names]
        owner = torch.cat([torch.full_like(b[:, :1], i) for i, b in enumerate(boxes)])
        rows, levels = torch.cat([owner, torch.cat(boxes)], 1), mapper(boxes)
        size = tuple(self.output_size)
        pooled = maps[0].new_zeros(len(rows), maps[0].shape[1], *size)
        for level, (map_, scale) in enumerate(zip(maps, self.scales or [], strict=True)):
            mine = levels == level
            pooled[mine] = roi_align(map_, rows[mine], size, scale, 0, aligned=True)
        return pooled


def detectron2_mask_rcnn(depth: int = 50, num_classes: int = 81, **kwargs: Any) -> MaskRCNN:
    """Build the model with random weights.

    Args:
        depth: of the ResNet, 50 or 101.
        num_classes: background included.
        **kwargs: arguments of torchvision's `MaskRCNN` that replace detectron2's.
    """
    parts: dict[str, Any] = {
        "rpn_anchor_generator": FixedAnchors(),
        "box_roi_pool": AlignedRoIAlign(7),
        "mask_roi_pool": AlignedRoIAlign(14),
        "image_mean": list(_MEAN),
        "image_std": [1 / 255] * 3,
    }
    backbone = resnet_fpn(depth)
    stride_in_first(backbone.body)
    model = MaskRCNN(backbone, num_classes, **{**parts, **kwargs})
    model.rpn.min_size = _NOT_EMPTY_PX
    return model


def is_detectron2(weights: Mapping[str, Tensor]) -> bool:
    """Whether `weights` have the names of a detectron2 R-CNN."""
    return _LAYOUT.marker in weights


def translate(model: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return detectron2's `weights` under torchvision's names.

    Raises:
        InputError: `model` has torchvision's own anchors or RoIAlign, or the colours are others.
    """
    anchors = getattr(getattr(model, "rpn", None), "anchor_generator", None)
    if not isinstance(anchors, FixedAnchors):
        raise InputError(
            "the weights are detectron2's, whose anchors, RoIAlign and colours are not "
            "torchvision's: compile maskrt:maskrcnn_r50_detectron2 (or _r101_) instead."
        )
    _take_over_anchors(anchors, weights)
    _check_colours(weights)
    return renamed(model, weights, (_LAYOUT,))


def _take_over_anchors(anchors: FixedAnchors, weights: Mapping[str, Tensor]) -> None:
    """Set the anchors that files of detectron2's first versions hold, which may be a user's own."""
    for level, own in enumerate(anchors.cell_anchors):
        held = weights.get(f"{_CELL_ANCHORS}.{level}")
        if held is not None and held.shape == own.shape:  # else the RPN's layers do not fit either
            anchors.cell_anchors[level] = held.clone()


def _check_colours(weights: Mapping[str, Tensor]) -> None:
    """Refuse weights whose file tells of other colours than those of the default configuration."""
    expected = {"pixel_mean": [255 * mean for mean in reversed(_MEAN)], "pixel_std": [1.0] * 3}
    for name, values in expected.items():
        if name not in weights:
            continue
        held = [round(value, 3) for value in weights[name].flatten().tolist()]
        if not np.allclose(held, values, atol=0.5):
            raise InputError(
                f"the weights were trained with {name} {held}, and only "
                f"{[round(value, 3) for value in values]}, detectron2's default for BGR pictures, "
                "is understood."
            )


def _rearranged(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the colours of the first layer around, put background first, and scale objectness.

    Objectness orders proposals and does nothing else. torchvision takes its sigmoid, in float32 1
    for all above 17; of an eighth of it every difference survives.
    """
    moved = dict(weights)
    for name in ("rpn.head.cls_logits.weight", "rpn.head.cls_logits.bias"):
        if name in moved:
            moved[name] = moved[name] / _OBJECTNESS_SCALE
    first = "backbone.body.conv1.weight"
    if first in moved:
        moved[first] = moved[first].flip(1)
    for layer, rows in _BACKGROUND_ROWS.items():
        for name in (f"{layer}.weight", f"{layer}.bias"):
            if name in moved:
                moved[name] = _background_first(moved[name], rows)
    return moved


def _background_first(rows: Tensor, absent: int | None) -> Tensor:
    """Move the last row to the front, or put `absent` rows of zeros there."""
    if absent is None:
        return rows.roll(1, 0)
    return torch.cat([rows.new_zeros(absent, *rows.shape[1:]), rows])


def _cell_anchors(size: int) -> Tensor:
    """Return the anchors `[3, 4]` around (0, 0)."""
    widths = [math.sqrt(size**2 / ratio) for ratio in _RATIOS]
    rows = [(-w / 2, -r * w / 2, w / 2, r * w / 2) for w, r in zip(widths, _RATIOS, strict=True)]
    return torch.tensor(rows)
