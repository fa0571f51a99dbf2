"""CondInst checkpoints of AdelaiDet and mmdetection.

                   AdelaiDet                        mmdetection
pictures           BGR, mean subtracted             RGB, mean and deviation
stride of blocks   in the first 1x1                 in the 3x3
score              √(probability · centerness)      probability · centerness
above 0.05         probability · centerness         probability
best 1000 by       probability · centerness         probability
masks are          half a pixel late                half a pixel late
boxes are clipped  after NMS                        before
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ...core.masks import MaskFrame
from .checkpoints import DETECTRON2_FPN, MMDET_FPN, Layout, as_detectron2_reads
from .condinst import CondInst

__all__ = ["CONDINST_LAYOUTS"]

_SIZES = "mask_head.sizes_of_interest"  # a constant of theirs, which their files hold


def _as_adelaidet(model: CondInst, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    model.inference = replace(
        model.inference, root_scores=True, threshold_product=True, rank_product=True,
        clip_first=False,
    )  # fmt: skip
    model.mask_frame = MaskFrame.CANVAS_LATE
    sizes = weights.get(_SIZES)
    if sizes is not None:
        model.sizes_of_interest = tuple(int(size) for size in sizes)
    kept = {name: value for name, value in weights.items() if name != _SIZES}
    return _scalar_scales(as_detectron2_reads(model, kept))


def _as_mmdetection(model: CondInst, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    model.inference = replace(
        model.inference, root_scores=False, threshold_product=False, rank_product=False,
        clip_first=True,
    )  # fmt: skip
    model.mask_frame = MaskFrame.CANVAS_LATE
    return _scalar_scales(weights)


def _scalar_scales(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the scale of each level, which AdelaiDet keeps as `[1]`, no dimension."""
    return {
        name: value.reshape(()) if name.startswith("head.scales.") and value.numel() == 1 else value
        for name, value in weights.items()
    }


ADELAIDET = Layout(
    "AdelaiDet",
    "proposal_generator.fcos_head.cls_logits.weight",
    (
        (
            r"backbone\.fpn_lateral([3-5])\.(weight|bias)",
            lambda m: f"backbone.fpn.inner_blocks.{int(m[1]) - 3}.0.{m[2]}",
        ),
        (
            r"backbone\.fpn_output([3-5])\.(weight|bias)",
            lambda m: f"backbone.fpn.layer_blocks.{int(m[1]) - 3}.0.{m[2]}",
        ),
        (r"backbone\.top_block\.(p6|p7)\.(.+)", r"backbone.fpn.extra_blocks.\1.\2"),
        (r"proposal_generator\.fcos_head\.cls_tower\.(.+)", r"head.cls_tower.\1"),
        (r"proposal_generator\.fcos_head\.bbox_tower\.(.+)", r"head.box_tower.\1"),
        (r"proposal_generator\.fcos_head\.cls_logits\.(.+)", r"head.logits.\1"),
        (r"proposal_generator\.fcos_head\.bbox_pred\.(.+)", r"head.distances.\1"),
        (r"proposal_generator\.fcos_head\.ctrness\.(.+)", r"head.centerness.\1"),
        (r"proposal_generator\.fcos_head\.scales\.(\d)\.scale", r"head.scales.\1"),
        (r"mask_branch\.tower\.4\.(weight|bias)", r"mask_branch.last.\1"),
        *DETECTRON2_FPN,
    ),
    _as_adelaidet,
    left_out=r"mask_head\._iter|mask_branch\.(seg_head|logits)\..+"
    r"|pixel_(mean|std)",
)

MMDETECTION = Layout(
    "mmdetection",
    "bbox_head.controller.weight",
    (
        (r"neck\.fpn_convs\.3\.conv\.(.+)", r"backbone.fpn.extra_blocks.p6.\1"),
        (r"neck\.fpn_convs\.4\.conv\.(.+)", r"backbone.fpn.extra_blocks.p7.\1"),
        (
            r"bbox_head\.(cls|reg)_convs\.(\d)\.(conv|gn)\.(.+)",
            lambda m: (
                f"head.{'cls' if m[1] == 'cls' else 'box'}_tower."
                f"{3 * int(m[2]) + (m[3] == 'gn')}.{m[4]}"
            ),
        ),
        (r"bbox_head\.conv_cls\.(.+)", r"head.logits.\1"),
        (r"bbox_head\.conv_reg\.(.+)", r"head.distances.\1"),
        (r"bbox_head\.conv_centerness\.(.+)", r"head.centerness.\1"),
        (r"bbox_head\.scales\.(\d)\.scale", r"head.scales.\1"),
        (r"bbox_head\.controller\.(.+)", r"controller.\1"),
        (
            r"mask_head\.mask_feature_head\.convs_all_levels\.(\d)\.conv\1\.conv\.(.+)",
            r"mask_branch.refine.\1.0.\2",
        ),
        (
            r"mask_head\.mask_feature_head\.convs_all_levels\.(\d)\.conv\1\.bn\.(.+)",
            r"mask_branch.refine.\1.1.\2",
        ),
        (
            r"mask_head\.mask_feature_head\.conv_branch\.(\d)\.conv\.(.+)",
            r"mask_branch.tower.\1.0.\2",
        ),
        (
            r"mask_head\.mask_feature_head\.conv_branch\.(\d)\.bn\.(.+)",
            r"mask_branch.tower.\1.1.\2",
        ),
        (r"mask_head\.mask_feature_head\.conv_pred\.(.+)", r"mask_branch.last.\1"),
        *MMDET_FPN,
    ),
    _as_mmdetection,
    classes="bbox_head.conv_cls.weight",
)

CONDINST_LAYOUTS = (
    ADELAIDET,
    MMDETECTION,
    Layout("maskrt", "controller.weight", (), classes="head.logits.weight"),
)
