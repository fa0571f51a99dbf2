"""A torchvision detector as one of pictures of one size: its own code, without its resizing."""

import copy
from typing import Any

import torch
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from ...core import InputSpec, UnsupportedModelError

__all__ = ["at_fixed_size", "transform_of"]


def at_fixed_size(model: nn.Module, spec: InputSpec) -> Any:
    """Return a float32 CPU copy of `model` that takes `spec`-sized pictures without resizing them.

    This is the reference: the same letterboxed input goes through torchvision's own code.
    """
    with torch.no_grad():
        fixed: Any = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    old = transform_of(fixed)
    fixed.transform = GeneralizedRCNNTransform(
        min(spec.height, spec.width),
        max(spec.height, spec.width),
        old.image_mean,
        old.image_std,
        old.size_divisible,
    ).eval()
    for pool in (fixed.roi_heads.box_roi_pool, fixed.roi_heads.mask_roi_pool):
        if isinstance(pool, MultiScaleRoIAlign):
            pool.scales, pool.map_levels = None, None  # torchvision keeps the first picture's
    return fixed


def transform_of(model: Any) -> GeneralizedRCNNTransform:
    """Return what normalises a model's pictures.

    Raises:
        UnsupportedModelError: it is not torchvision's own.
    """
    transform = getattr(model, "transform", None)
    if type(transform) is not GeneralizedRCNNTransform:
        raise UnsupportedModelError(
            f"the model's transform is a {type(transform).__name__}, and only torchvision's own "
            "GeneralizedRCNNTransform is understood."
        )
    return transform
