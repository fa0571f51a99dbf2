"""torchvision's FP32 model as the reference: the same letterboxed input, torchvision's own code.

It answers in the canonical outputs (padded arrays), so pictures reach it and leave it through the
very same pre- and post-processing as an engine, and any difference is the engine's.
"""

import numpy as np
import torch
from torch import nn

from ..core import InputSpec
from .families.torchvision_two_stage import at_fixed_size

__all__ = ["PyTorchReference"]


class PyTorchReference:
    """Runs `model` eagerly on `uint8 [B, H, W, 3]` batches; see the module's text."""

    def __init__(self, model: nn.Module, spec: InputSpec) -> None:
        """Copy `model`, with its resizing fixed to `spec`."""
        self._model = at_fixed_size(model, spec)
        self._spec = spec

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return `boxes`, `scores`, `labels`, `count` and, of a mask model, `masks`."""
        heads = self._model.roi_heads
        pictures = [torch.from_numpy(i).permute(2, 0, 1).float() / 255 for i in images]
        with torch.no_grad():
            batch, _ = self._model.transform(pictures)
            features = self._model.backbone(batch.tensors)
            if isinstance(features, torch.Tensor):
                features = {"0": features}
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

    @staticmethod
    def _padded(rows: list[np.ndarray], length: int) -> np.ndarray:
        padded = np.zeros((len(rows), length, *rows[0].shape[1:]), rows[0].dtype)
        for target, source in zip(padded, rows, strict=True):
            target[: len(source)] = source
        return padded

    def describe(self) -> dict[str, str]:
        """Say what runs: for reports."""
        return {"backend": "pytorch", "version": torch.__version__, "precision": "fp32"}
