"""What a file of detectron2 is, told by the names and shapes of its parameters.

Each of detectron2's models leaves a name that no other has. Those that a model of this project
takes are told to their depth; each of the others is named, with what helps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ["model_for", "refusal", "remark"]

_ONNX = (
    "export the model to ONNX with detectron2's tools/deploy/export_model.py (--format onnx "
    "--export-method tracing) and compile that file (docs/surgery.md)"
)
_RETRAIN = "compile a Mask R-CNN or Faster R-CNN with a plain FPN instead (docs/weights.md)"
_FROM_DETECTRON2 = r"(backbone\.(bottom_up|res\d|stem|net)|proposal_generator\.rpn_head)\."
_OTHERS = r"proposal_generator\.fcos_head|ins_head|mask_branch|basis_module"  # AdelaiDet's


@dataclass(frozen=True)
class _Kind:
    """A model that is not compiled from its weights.

    Attributes:
        name: as its users call it.
        held: pattern of a parameter that only it has; "" if it is told by what it lacks.
        lacking: pattern of parameters that it lacks and the others have; "" if none.
        reason: why not, to go after its name.
        remedy: what to do.
    """

    name: str
    held: str
    reason: str
    remedy: str
    lacking: str = ""


_KINDS = (  # the first that fits
    _Kind("model with deformable convolutions", r"backbone\..+\.conv2_offset\.",
          "which TensorRT has no layer for", _RETRAIN),
    _Kind("model on a vision transformer", r"backbone\.net\.",
          "whose attention is not translated", _RETRAIN),
    _Kind("FCOS", r"head\.ctrness\.", "which has no model here",
          "AdelaiDet's CondInst, which is FCOS with masks, is maskrt:condinst_r50 or _r101"),
    _Kind("RetinaNet", r"head\.cls_subnet\.", "which has no model here", _RETRAIN),
    _Kind("semantic segmentation model", r"sem_seg_head\.", "which finds no instances", _RETRAIN,
          lacking=r"roi_heads\."),
    _Kind("RPN alone", r"proposal_generator\.", "which finds proposals and no classes", _RETRAIN,
          lacking=r"roi_heads\."),
    _Kind("Fast R-CNN", r"roi_heads\.", "whose proposals come from outside", _RETRAIN,
          lacking=r"proposal_generator\."),
    _Kind("Keypoint R-CNN", r"roi_heads\.keypoint_head\.", "whose keypoints no output can hold",
          _RETRAIN),
    _Kind("Cascade R-CNN", r"roi_heads\.box_(predictor|head)\.0\.",
          "whose three box heads in a row have no model here", _RETRAIN),
    _Kind("PointRend", r"roi_heads\.mask_head\.(point_head|coarse_head)\.",
          "whose masks are refined point by point", _RETRAIN),
    _Kind("R-CNN with a C4 head", r"roi_heads\.res5\.",
          "whose head is a stage of the ResNet, which no model here has", _ONNX),
    _Kind("R-CNN with dilated C5", r"roi_heads\.box_head\.fc1\.",
          "whose maps are one dilated stage and no pyramid, which no model here has", _ONNX,
          lacking=r"backbone\.fpn_output"),
    _Kind("R-CNN on a backbone that is no ResNet", r"roi_heads\.",
          "which no model here has", _ONNX, lacking=r"backbone\.bottom_up\.res2\."),
    _Kind("R-CNN with norms in its pyramid and heads (GN or SyncBN)",
          r"backbone\.fpn_lateral\d\.norm\.|roi_heads\.(box|mask)_head\..+\.norm\.",
          "which no model here has", _ONNX),
)  # fmt: skip
_BODIES = {(6, 1): "r50", (23, 1): "r101", (23, 32): "x101"}  # blocks of res4, and groups


def refusal(weights: Mapping[str, Tensor]) -> str | None:
    """Say of what model of detectron2 `weights` are and what takes them, to go after "are".

    Returns:
        A sentence's end with its full stop; None if they are not detectron2's.
    """
    if not _is_any(weights, _FROM_DETECTRON2) or _is_any(weights, _OTHERS):
        return None
    for kind in _KINDS:
        if _is_any(weights, kind.held) and not (kind.lacking and _is_any(weights, kind.lacking)):
            return f"of detectron2's {kind.name}, {kind.reason}: {kind.remedy}."
    model = model_for(weights)
    name = "Mask R-CNN" if _is_any(weights, r"roi_heads\.mask_head\.") else "Faster R-CNN"
    if model is None:
        return f"of detectron2's {name} on a ResNet of another depth or width: {_ONNX}."
    return (
        f"of detectron2's {name}, whose anchors, RoIAlign and colours are its own: compile "
        f"maskrt:{model} with them."
    )


def model_for(weights: Mapping[str, Tensor]) -> str | None:
    """Return the name of the model of this project that takes detectron2's `weights`, or None.

    Args:
        weights: of a Mask or Faster R-CNN with a plain FPN; of others the answer means nothing.
    """
    blocks = {
        m[1] for name in weights if (m := re.match(r"backbone\.bottom_up\.res4\.(\d+)", name))
    }
    middle = weights.get("backbone.bottom_up.res2.0.conv2.weight")
    four = middle is not None and middle.dim() == 4
    groups = middle.shape[0] // max(middle.shape[1], 1) if middle is not None and four else 0
    body = _BODIES.get((len(blocks), groups))
    kind = "maskrcnn" if _is_any(weights, r"roi_heads\.mask_head\.") else "fasterrcnn"
    return f"{kind}_{body}_detectron2" if body else None


def remark(weights: Mapping[str, Tensor]) -> str | None:
    """Say what of detectron2's `weights` a model here leaves unused; None if nothing."""
    if _is_any(weights, r"proposal_generator\.rpn_head\.") and _is_any(weights, r"sem_seg_head\."):
        return (
            "the weights are of Panoptic FPN: its instances are found, and its semantic half "
            "(sem_seg_head) is left out."
        )
    return None


def _is_any(weights: Mapping[str, Tensor], pattern: str) -> bool:
    return any(re.match(pattern, name) for name in weights)
