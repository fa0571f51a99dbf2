"""detectron2's Mask and Faster R-CNN on R50-FPN, R101-FPN and X101-FPN as torchvision's, by part.

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
changing weights, and the manifest says how masks are pasted (`MaskPaste`). X101 has its stride in
the 3x3, as torchvision. Boxes and masks for all classes alike (`CLS_AGNOSTIC_*`) are repeated for
each class. The semantic half of Panoptic FPN is left out. What stays torchvision's: detections with
a side below a hundredth of a pixel are dropped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, roi_align

from ...core import InputError, UsageError
from .backbones import resnet_fpn
from .checkpoints import DETECTRON2_FPN, Layout, renamed, stride_in_first
from .detectron2_layouts import refusal

__all__ = ["AlignedRoIAlign", "FixedAnchors", "detectron2_rcnn", "is_detectron2", "translate"]

_STRIDES = (4, 8, 16, 32, 64)
_SIZES = (32, 64, 128, 256, 512)
_RATIOS = (0.5, 1.0, 2.0)
_MEAN_BGR = (103.53, 116.28, 123.675)
_STD_BGR = {50: (1.0, 1.0, 1.0), 101: (1.0, 1.0, 1.0), "x101": (57.375, 57.12, 58.395)}
_FORMATS = ("BGR", "RGB")
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
    lambda model, weights: _rearranged(model, weights),
    left_out=rf"{re.escape(_CELL_ANCHORS)}\.\d|pixel_(mean|std)|sem_seg_head\..+",
)
_BACKGROUND_ROWS = {  # where background comes from the end, or has rows of zeros put before
    "roi_heads.box_predictor.cls_score": None,
    "roi_heads.box_predictor.bbox_pred": 4,
    "roi_heads.mask_predictor.mask_fcn_logits": 1,
}


class FixedAnchors(AnchorGenerator):
    """Anchors as detectron2's: sides not rounded, a level's stride whatever the picture's size."""

    def __init__(
        self, sizes: Sequence[float] = _SIZES, aspect_ratios: Sequence[float] = _RATIOS
    ) -> None:
        """Keep detectron2's defaults for FPN, or its `ANCHOR_GENERATOR.SIZES` and `ASPECT_RATIOS`.

        Args:
            sizes: of the anchors of each level, in pixels.
            aspect_ratios: height over width, the same on all levels.
        """
        super().__init__(tuple((s,) for s in sizes), (tuple(aspect_ratios),) * len(sizes))
        self.cell_anchors = [_cell_anchors(size, aspect_ratios) for size in sizes]

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


def detectron2_rcnn(
    body: int | str = 50,
    num_classes: int = 81,
    *,
    masks: bool = True,
    stride_in_1x1: bool | None = None,
    pixel_format: str = "BGR",
    pixel_mean: Sequence[float] | None = None,
    pixel_std: Sequence[float] | None = None,
    **kwargs: Any,
) -> FasterRCNN:
    """Build the model with random weights.

    What a configuration changed and a file of weights does not tell is given by its names there.

    Args:
        body: 50 or 101 for a ResNet, "x101" for ResNeXt-101 32x8d.
        num_classes: background included.
        masks: Mask R-CNN; otherwise Faster R-CNN.
        stride_in_1x1: `RESNETS.STRIDE_IN_1X1`; None is true but for X101, as in detectron2's own.
        pixel_format: `INPUT.FORMAT`, "BGR" or "RGB".
        pixel_mean: `PIXEL_MEAN`, in the order of the format, from 0 to 255.
        pixel_std: `PIXEL_STD`, likewise.
        **kwargs: arguments of torchvision's `MaskRCNN` or `FasterRCNN` that replace detectron2's,
            such as `rpn_anchor_generator=FixedAnchors(…)` or `box_score_thresh`.

    Raises:
        UsageError: no such body, or another pixel format.
    """
    if body not in _STD_BGR or pixel_format not in _FORMATS:
        raise UsageError(
            "detectron2's models here have the body 50, 101 or 'x101' and BGR or RGB pictures, "
            f"not {body!r} and {pixel_format!r}."
        )
    turn = -1 if pixel_format == "BGR" else 1
    mean = _MEAN_BGR[::-turn] if pixel_mean is None else tuple(pixel_mean)
    std = _STD_BGR[body][::-turn] if pixel_std is None else tuple(pixel_std)
    parts: dict[str, Any] = {
        "rpn_anchor_generator": FixedAnchors(),
        "box_roi_pool": AlignedRoIAlign(7),
        "image_mean": [value / 255 for value in mean[::turn]],
        "image_std": [value / 255 for value in std[::turn]],
        **({"mask_roi_pool": AlignedRoIAlign(14)} if masks else {}),
    }
    backbone = resnet_fpn(101, grouped=True) if body == "x101" else resnet_fpn(int(body))
    if (body != "x101") if stride_in_1x1 is None else stride_in_1x1:
        stride_in_first(backbone.body)
    model: Any = (MaskRCNN if masks else FasterRCNN)(backbone, num_classes, **{**parts, **kwargs})
    model.rpn.min_size = _NOT_EMPTY_PX
    model.pixel_format = pixel_format
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
        raise InputError(f"the weights are {refusal(weights)}")
    _check_colours(model, weights)
    _take_over_anchors(anchors, weights)
    return renamed(model, weights, (_LAYOUT,))


def _take_over_anchors(anchors: FixedAnchors, weights: Mapping[str, Tensor]) -> None:
    """Set the anchors that files of detectron2's first versions hold, which may be a user's own."""
    for level, own in enumerate(anchors.cell_anchors):
        held = weights.get(f"{_CELL_ANCHORS}.{level}")
        if held is not None and held.shape == own.shape:  # else the RPN's layers do not fit either
            anchors.cell_anchors[level] = held.clone()


def _check_colours(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights whose file tells of other colours than those that `model` was built for."""
    turn = 1 if _is_rgb(model) else -1
    for name, own in (
        ("pixel_mean", model.transform.image_mean),
        ("pixel_std", model.transform.image_std),
    ):
        if name not in weights:
            continue
        expected = [round(255 * value, 3) for value in own[::turn]]
        held = [round(value, 3) for value in weights[name].flatten().tolist()]
        if len(held) != len(expected) or not np.allclose(held, expected, atol=0.5):
            raise InputError(
                f"the weights were trained with {name} {held}, and the model is for {expected}, "
                "detectron2's default: build it with pixel_mean, pixel_std and pixel_format as in "
                "your config.yaml (docs/weights.md)."
            )


def _is_rgb(model: Any) -> bool:
    return getattr(model, "pixel_format", "BGR") == "RGB"


def _rearranged(model: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the colours of the first layer around, put background first, and scale objectness.

    Objectness orders proposals and does nothing else. torchvision takes its sigmoid, in float32 1
    for all above 17; of an eighth of it every difference survives.
    """
    moved = _for_each_class(dict(weights))
    for name in ("rpn.head.cls_logits.weight", "rpn.head.cls_logits.bias"):
        if name in moved:
            moved[name] = moved[name] / _OBJECTNESS_SCALE
    first = "backbone.body.conv1.weight"
    if first in moved and not _is_rgb(model):
        moved[first] = moved[first].flip(1)
    for layer, rows in _BACKGROUND_ROWS.items():
        for name in (f"{layer}.weight", f"{layer}.bias"):
            if name in moved:
                moved[name] = _background_first(moved[name], rows)
    return moved


def _for_each_class(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Repeat the rows of boxes and masks that are the same for all classes."""
    scores = weights.get("roi_heads.box_predictor.cls_score.bias")
    if scores is None:
        return weights
    for layer, rows in _BACKGROUND_ROWS.items():
        for name in (f"{layer}.weight", f"{layer}.bias"):
            held = weights.get(name)
            if rows is not None and held is not None and held.dim() and len(held) == rows:
                weights[name] = held.repeat(len(scores) - 1, *[1] * (held.dim() - 1))
    return weights


def _background_first(rows: Tensor, absent: int | None) -> Tensor:
    """Move the last row to the front, or put `absent` rows of zeros there."""
    if absent is None:
        return rows.roll(1, 0)
    return torch.cat([rows.new_zeros(absent, *rows.shape[1:]), rows])


def _cell_anchors(size: float, ratios: Sequence[float]) -> Tensor:
    """Return the anchors `[ratios, 4]` around (0, 0)."""
    widths = [math.sqrt(size**2 / ratio) for ratio in ratios]
    rows = [(-w / 2, -r * w / 2, w / 2, r * w / 2) for w, r in zip(widths, ratios, strict=True)]
    return torch.tensor(rows)
