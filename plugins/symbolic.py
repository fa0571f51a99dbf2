"""`maskrt` nodes in a PyTorch model: a symbolic node while exporting, the reference otherwise.

`torch.onnx.ops.symbolic` puts a node of any domain into the exported graph without running
anything; its local function is attached afterwards by `attach_functions`.
"""

from collections.abc import Sequence
from typing import Any

from ..core import require
from .batched_nms import SCHEMA as BATCHED_NMS
from .mask_iou import SCHEMA as MASK_IOU
from .matrix_nms import SCHEMA as MATRIX_NMS
from .multilevel_roialign import SCHEMA as MULTILEVEL_ROIALIGN
from .operator import DOMAIN

__all__ = ["batched_nms", "mask_iou", "matrix_nms", "multilevel_roialign"]


def multilevel_roialign(boxes: Any, features: Sequence[Any], **attributes: Any) -> Any:
    """Pool `boxes [B, N, 4]` from `features`; see `multilevel_roialign/schema.py`."""
    torch = require("torch", "export a PyTorch model")
    MULTILEVEL_ROIALIGN.validate(attributes, 1 + len(features))
    if not torch.onnx.is_in_onnx_export():
        from .multilevel_roialign.reference import multilevel_roialign as reference

        return reference(boxes, features, **attributes)
    size = (attributes["output_height"], attributes["output_width"])
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{MULTILEVEL_ROIALIGN.name}",
        (boxes, *features),
        attributes,
        dtype=boxes.dtype,
        shape=(*boxes.shape[:2], features[0].shape[1], *size),
        version=MULTILEVEL_ROIALIGN.version,
    )


def batched_nms(boxes: Any, scores: Any, labels: Any, **attributes: Any) -> Sequence[Any]:
    """Suppress `boxes [B, K, 4]` per label; see `batched_nms/schema.py`."""
    torch = require("torch", "export a PyTorch model")
    BATCHED_NMS.validate(attributes, 3)
    if not torch.onnx.is_in_onnx_export():
        from .batched_nms.reference import batched_nms as reference

        return reference(boxes, scores, labels, **attributes)
    batch, kept = boxes.shape[0], attributes["max_outputs"]
    return torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::{BATCHED_NMS.name}",
        (boxes, scores, labels),
        attributes,
        dtypes=(torch.float32, torch.float32, torch.int32, torch.int32, torch.int32),
        shapes=((batch, kept, 4), (batch, kept), (batch, kept), (batch, kept), (batch,)),
        version=BATCHED_NMS.version,
    )


def mask_iou(masks: Any, **attributes: Any) -> Sequence[Any]:
    """Compare all pairs of `masks [B, N, H, W]`; see `mask_iou/schema.py`."""
    torch = require("torch", "export a PyTorch model")
    MASK_IOU.validate(attributes, 1)
    if not torch.onnx.is_in_onnx_export():
        from .mask_iou.reference import mask_iou as reference

        return reference(masks, **attributes)
    batch, number = masks.shape[:2]
    return torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::{MASK_IOU.name}",
        (masks,),
        attributes,
        dtypes=(torch.float32, torch.float32),
        shapes=((batch, number, number), (batch, number)),
        version=MASK_IOU.version,
    )


def matrix_nms(iou: Any, scores: Any, labels: Any, **attributes: Any) -> Any:
    """Decay `scores [B, N]` by `iou [B, N, N]`; see `matrix_nms/schema.py`."""
    torch = require("torch", "export a PyTorch model")
    MATRIX_NMS.validate(attributes, 3)
    if not torch.onnx.is_in_onnx_export():
        from .matrix_nms.reference import matrix_nms as reference

        return reference(iou, scores, labels, **attributes)
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{MATRIX_NMS.name}",
        (iou, scores, labels),
        attributes,
        dtype=torch.float32,
        shape=scores.shape,
        version=MATRIX_NMS.version,
    )
