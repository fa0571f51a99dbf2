"""torchvision's FP32 model as the reference: the same letterboxed input, torchvision's own code.

It answers in the canonical outputs (padded arrays), so pictures reach it and leave it through the
very same pre- and post-processing as an engine, and any difference is the engine's. The letterbox
is undone first: each picture is cut out of its canvas, and torchvision normalises it, makes the
batch and clips to the picture, as with any batch whose largest picture has the canvas's size.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from ...core import InputSpec
from .fixed_size import at_fixed_size, transform_of
from .normalisation import normalisation_of

__all__ = ["PyTorchReference"]


class PyTorchReference:
    """Runs `model` eagerly on `uint8 [B, H, W, 3]` batches; see the module's text."""

    def __init__(self, model: nn.Module, spec: InputSpec) -> None:
        """Copy `model`, with its resizing fixed to `spec`."""
        self._model = at_fixed_size(model, spec)
        self._spec = spec
        how = transform_of(model)
        self._white = normalisation_of(how.image_mean, how.image_std).white

    def run(
        self, images: np.ndarray, sizes: Sequence[tuple[int, int]] | None = None
    ) -> dict[str, np.ndarray]:
        """Return `boxes`, `scores`, `labels`, `count` and, of a mask model, `masks`.

        Args:
            images: uint8 `[B, H, W, 3]`, letterboxed.
            sizes: `(height, width)` of the picture on each canvas; None reads it from the canvas.
        """
        heads = self._model.roi_heads
        with torch.no_grad():
            batch = self._batch(images, sizes or self._spec.picture_sizes(images))
            features = self._model.backbone(batch.tensors)
            if isinstance(features, Tensor):
                features = {"0": features}
            self._fix_scales(features)
            proposals, _ = self._model.rpn(batch, features)
            found, _ = heads(features, proposals, batch.image_sizes)
        outputs = {
            name: self._padded([f[name].numpy() for f in found], heads.detections_per_img)
            for name in ("boxes", "scores", "labels", *(["masks"] if heads.has_mask() else []))
        }
        if "masks" in outputs:
            outputs["masks"] = outputs["masks"][:, :, 0]
        outputs["count"] = np.array([len(f["scores"]) for f in found], np.int32)
        return outputs

    def _batch(self, images: np.ndarray, sizes: Sequence[tuple[int, int]]) -> ImageList:
        """Return the batch that torchvision makes of the pictures."""
        transform = self._model.transform
        pictures = [
            transform.normalize(
                torch.from_numpy(image[:h, :w]).permute(2, 0, 1).float() / (255 / self._white)
            )
            for image, (h, w) in zip(images, sizes, strict=True)
        ]
        # One more, as large as the canvas: torchvision pads to the largest.
        largest = torch.zeros(3, self._spec.height, self._spec.width)
        tensors = transform.batch_images([*pictures, largest], transform.size_divisible)
        return ImageList(tensors[:-1], [(h, w) for h, w in sizes])

    def _fix_scales(self, features: dict[str, Tensor]) -> None:
        """Have the pools learn scales from the canvas: from the pictures they may come out wrong.

        torchvision takes a map's scale from its first picture, and so pads no more than 31 pixels.
        """
        heads: Any = self._model.roi_heads
        size = (self._spec.height, self._spec.width)
        for pool in (heads.box_roi_pool, heads.mask_roi_pool if heads.has_mask() else None):
            if pool is not None and getattr(pool, "scales", 0) is None:
                pool(features, [torch.zeros(0, 4)] * len(next(iter(features.values()))), [size])

    @staticmethod
    def _padded(rows: list[np.ndarray], length: int) -> np.ndarray:
        padded = np.zeros((len(rows), length, *rows[0].shape[1:]), rows[0].dtype)
        for target, source in zip(padded, rows, strict=True):
            target[: len(source)] = source
        return padded

    def describe(self) -> dict[str, str]:
        """Say what runs: for reports."""
        return {"backend": "pytorch", "version": torch.__version__, "precision": "fp32"}
