"""Graphs as others export them: torchvision's detectors through `torch.onnx.export`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image

from maskrt.checking.conversion import prove
from maskrt.export.surgery import export_onnx

from ..detectors import enliven, tiny_mask_rcnn
from ..steady import steady_pictures

__all__ = ["equals_original", "export_old", "lively_detector", "resized"]


def resized(photos: Sequence[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
    """Return `photos` at exactly `(height, width)`."""
    return [np.asarray(Image.fromarray(photo).resize(size[::-1])) for photo in photos]


def lively_detector(
    photos: Sequence[np.ndarray], size: tuple[int, int], **options: Any
) -> tuple[Any, list[np.ndarray]]:
    """Return a Mask R-CNN of two levels that detects something, and `photos` at its `size`."""
    import torch

    torch.manual_seed(0)
    shown = resized(photos, size)
    model = tiny_mask_rcnn(
        2, min_size=size[0], max_size=size[1], rpn_pre_nms_top_n_test=60, **options
    )
    return enliven(model, shown), shown


def export_old(
    model: Any, photos: Sequence[np.ndarray], size: tuple[int, int], path: Path, **options: Any
) -> Path:
    """Write `model`, made to detect something in `photos`, with the exporter `dynamo=False`."""
    import torch

    shown = resized(photos, size)
    enliven(model, shown)
    picture = torch.from_numpy(shown[0].copy()).permute(2, 0, 1) / 255
    torch.onnx.export(model, ([picture],), str(path), dynamo=False, **options)
    return path


def equals_original(
    path: Path, photos: Sequence[np.ndarray], least: int = 10, **options: Any
) -> onnx.ModelProto:
    """Return what surgery makes of `path`, which must find in `photos` what the original finds."""
    exported = export_onnx(path, **options)
    spec = exported.manifest.input
    shown = resized(photos, (spec.height, spec.width))
    found = prove(exported, steady_pictures(exported.model, exported.manifest, shown))
    assert found["violations"] == [], found
    assert found["instances"] >= least, found
    return exported.model
