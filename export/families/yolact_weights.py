"""YOLACT checkpoints of the authors' program and of mmdetection.

                   authors                                 mmdetection
    anchors        square, widths of ratios 1, 1/2, 2      ratios 1/2, 1, 2 (height over width)
    pyramid        see `yolact_pyramid.py`                 likewise
    anchors lie    evenly over the picture                 550 / 69, 550 / 35, … pixels apart
    candidates     all anchors                             the best 1000 of each level
    background     the first class                         the last
    boxes          clipped after NMS                       before

The authors' anchors are square by an oversight that their COCO models were trained with. Their
models for Pascal (20 classes) were not; nothing in a file tells but the number of classes. Models
of other sizes than 550 (`yolact_im400`, `yolact_im700`) have anchors in proportion: give them to
the factory. mmdetection's strides are numbers of its configuration, which stay as they are at other
sizes; a model that was trained with others needs them from the factory, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .checkpoints import MMDET_FPN, Layout
from .yolact import Yolact
from .yolact_pyramid import YolactFPN

__all__ = ["YOLACT_LAYOUTS", "classes_in"]

_MEAN = (123.68 / 255, 116.78 / 255, 103.94 / 255)
_STD = (58.40 / 255, 57.12 / 255, 57.38 / 255)
_PASCAL_CLASSES = 21
_MMDET_STRIDES = tuple(550 / places for places in (69, 35, 18, 9, 5))
_MMDET_LEVEL_CANDIDATES = 1000
_STRETCHED = (
    "these weights were trained on pictures stretched to the input size, and maskrt letterboxes: "
    "pictures of the input's own proportions are seen as there, and others give other scores."
)
_PROTONET = {"0": "before.0", "2": "before.2", "4": "before.4", "8": "after.0", "10": "last"}


def _with_background_first(model: Yolact, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    moved = dict(weights)
    for name in ("logits.weight", "logits.bias"):
        if name in moved:
            moved[name] = _background_first(moved[name], model.num_classes)
    return moved


def _background_first(rows: Tensor, classes: int) -> Tensor:
    """Return an anchor's rows with its last class moved to the front."""
    if rows.shape[0] % classes:
        return rows  # of another number of classes: loading says so
    grouped = rows.unflatten(0, (-1, classes))
    return torch.cat([grouped[:, -1:], grouped[:, :-1]], 1).flatten(0, 1)


def _as_the_authors(model: Yolact) -> None:
    model.image_mean, model.image_std = _MEAN, _STD
    model.inference = replace(model.inference, clip_first=False, level_candidates=None)
    model.warning = _STRETCHED
    pascal = model.num_classes == _PASCAL_CLASSES
    scales = model.anchors.scales
    if pascal and scales == type(model.anchors)().scales:
        scales = (32, 64, 128, 256, 512)
    model.anchors = replace(model.anchors, scales=scales, ratios=(1.0, 2.0, 0.5), square=not pascal)


def _as_mmdetection(model: Yolact) -> None:
    """Give `model` mmdetection's colours, anchors, NMS and pyramid."""
    model.image_mean, model.image_std = _MEAN, _STD
    model.inference = replace(
        model.inference, clip_first=True, level_candidates=_MMDET_LEVEL_CANDIDATES
    )
    model.warning = _STRETCHED
    strides = model.anchors.strides if model.anchors_given else _MMDET_STRIDES
    model.anchors = replace(model.anchors, ratios=(0.5, 1.0, 2.0), square=False, strides=strides)
    pyramid = model.backbone.fpn
    if isinstance(pyramid, YolactFPN):
        widths = [block[0].in_channels for block in pyramid.inner_blocks]
        channels = pyramid.inner_blocks[0][0].out_channels
        model.backbone.fpn = YolactFPN(widths, channels, relu=False, p6_of_c5=True)


AUTHORS = Layout(
    "the authors' program",
    "prediction_layers.0.conf_layer.weight",
    (
        (r"backbone\.(conv1|bn1)\.(.+)", r"backbone.body.\1.\2"),
        (
            r"backbone\.layers\.(\d)\.(.+)",
            lambda m: f"backbone.body.layer{int(m[1]) + 1}.{m[2]}",
        ),
        (
            r"fpn\.lat_layers\.([0-2])\.(.+)",
            lambda m: f"backbone.fpn.inner_blocks.{2 - int(m[1])}.0.{m[2]}",
        ),
        (
            r"fpn\.pred_layers\.([0-2])\.(.+)",
            lambda m: f"backbone.fpn.layer_blocks.{2 - int(m[1])}.0.{m[2]}",
        ),
        (
            r"fpn\.downsample_layers\.([01])\.(.+)",
            lambda m: f"backbone.fpn.p{int(m[1]) + 6}.{m[2]}",
        ),
        (r"proto_net\.(0|2|4|8|10)\.(.+)", lambda m: f"protonet.{_PROTONET[m[1]]}.{m[2]}"),
        (r"prediction_layers\.0\.upfeature\.0\.(.+)", r"tower.0.\1"),
        (r"prediction_layers\.0\.conf_layer\.(.+)", r"logits.\1"),
        (r"prediction_layers\.0\.bbox_layer\.(.+)", r"codes.\1"),
        (r"prediction_layers\.0\.mask_layer\.(.+)", r"coefficients.\1"),
        (r"semantic_seg_conv\.(.+)", r"semantic.\1"),
    ),
    prepare=_as_the_authors,
    # Files of their version 1.0 hold the backbone twice and unused pyramid layers.
    left_out=r"backbone\.layer\d\..+|fpn\.downsample_layers\.[2-9]\..+",
)

MMDETECTION = Layout(
    "mmdetection",
    "bbox_head.conv_coeff.weight",
    (
        (r"neck\.fpn_convs\.3\.conv\.(.+)", r"backbone.fpn.p6.\1"),
        (r"neck\.fpn_convs\.4\.conv\.(.+)", r"backbone.fpn.p7.\1"),
        (r"bbox_head\.head_convs\.0\.conv\.(.+)", r"tower.0.\1"),
        (r"bbox_head\.conv_cls\.(.+)", r"logits.\1"),
        (r"bbox_head\.conv_reg\.(.+)", r"codes.\1"),
        (r"bbox_head\.conv_coeff\.(.+)", r"coefficients.\1"),
        (
            r"mask_head\.protonet\.(0|2|4|8|10)\.(.+)",
            lambda m: f"protonet.{_PROTONET[m[1]]}.{m[2]}",
        ),
        (r"(?:mask_head\.segm_branch|segm_head)\.segm_conv\.(.+)", r"semantic.\1"),
        *MMDET_FPN,
    ),
    _with_background_first,
    prepare=_as_mmdetection,
)

YOLACT_LAYOUTS = (AUTHORS, MMDETECTION, Layout("maskrt", "protonet.last.weight", ()))

_ROWS = {
    "prediction_layers.0.conf_layer.weight": "prediction_layers.0.bbox_layer.weight",
    "bbox_head.conv_cls.weight": "bbox_head.conv_reg.weight",
    "logits.weight": "codes.weight",
}  # rows of an anchor are its classes, and the four codes


def classes_in(weights: Mapping[str, Tensor], layouts: Sequence[Layout]) -> int | None:
    """Return the number of classes, background included; None for another model's weights."""
    if not any(layout.marker in weights for layout in layouts):
        return None
    for classes, codes in _ROWS.items():
        if classes in weights and codes in weights:
            return int(weights[classes].shape[0] * 4 // max(weights[codes].shape[0], 1))
    return None
