"""One-stage models with random weights that detect: statistics and logits spread from photos.

As `tests/export/detectors.py` does for two-stage ones. A few detections of clear scores are wanted:
which of two equals is kept says nothing.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from maskrt.core import InputSpec
from maskrt.export.families.one_stage import OneStage, padded
from maskrt.runtime import letterbox

_CANDIDATES = 60


def batch_of(photos: Sequence[np.ndarray], size: tuple[int, int], model: OneStage) -> Any:
    spec = InputSpec(*size)
    canvases = np.stack([letterbox(photo, spec)[0] for photo in photos])
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (model.image_mean, model.image_std))
    return (torch.from_numpy(canvases).permute(0, 3, 1, 2).float() / 255 - mean) / std


def with_statistics(model: Any, images: Any) -> None:
    """Take batch-norm statistics from `images`."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
    model.train()
    with torch.no_grad():
        model(images)
    model.eval()


def spread(layer: nn.Conv2d, outputs: Sequence[Any], std: float, mean: float) -> None:
    """Scale `layer` so that its outputs over all levels have this spread and mean."""
    values = torch.cat([o.transpose(0, 1).flatten(1) for o in outputs], 1)
    scale = std / values.std(1).clamp(min=1e-6)
    with torch.no_grad():
        layer.weight.mul_(scale[:, None, None, None])
        layer.bias.copy_((layer.bias - values.mean(1)) * scale + mean)


def _make_rare(model: Any, images: Any) -> None:
    """Shift the categories so that `_CANDIDATES` cells of a picture pass the threshold at most."""
    levels = model.heads(model.backbone(padded(images))).categories
    scores = torch.cat([level.flatten(1) for level in levels], 1)
    ranked = scores.sort(1, descending=True).values
    picture = int(ranked[:, _CANDIDATES].argmax())
    least = ranked[picture, _CANDIDATES - 1 : _CANDIDATES + 1].mean()  # clear of both
    threshold = model.settings.score_threshold
    model.category_branch.logits.bias.add_(math.log(threshold / (1 - threshold)) - least)


def enliven_grid(model: Any, photos: Sequence[np.ndarray], size: tuple[int, int]) -> Any:
    """Make a SOLO or SOLOv2 detect; returns it in eval mode."""
    images = batch_of(photos, size, model)
    with_statistics(model, images)
    with torch.no_grad():
        heads = model.heads(model.backbone(padded(images)))
        spread(model.category_branch.logits, heads.categories, 1.2, 0.0)
        _make_rare(model, images)
        if hasattr(model, "kernel_branch"):
            product = heads.kernels[0].flatten(2).transpose(1, 2) @ heads.feature.flatten(2)
            model.kernel_branch.kernels.weight.mul_(4.0 / product.std())
        else:
            for layers, number in zip(model.mask_layers, (0, 1), strict=False):
                for level, layer in enumerate(layers):
                    spread(layer, [layer(heads.features[level][number])], 3.0, 0.5)
    return model.eval()


def enliven_condinst(model: Any, photos: Sequence[np.ndarray], size: tuple[int, int]) -> Any:
    """Make a CondInst detect; returns it in eval mode."""
    images = batch_of(photos, size, model)
    with_statistics(model, images)
    with torch.no_grad():
        maps = model.backbone(padded(images))
        towers = [level.tower for level in model.heads(maps).levels]
        logits = [level.logits for level in model.heads(maps).levels]
        spread(model.head.logits, logits, 1.5, -4.5)
        spread(model.head.centerness, [model.head.centerness(t) for t in towers], 1.0, 0.5)
        spread(model.head.distances, [model.head.distances(t) for t in towers], 1.0, 2.0)
        spread(model.controller, [model.controller(t) for t in towers], 1.0, 0.0)
    return model.eval()


def enliven_yolact(model: Any, photos: Sequence[np.ndarray], size: tuple[int, int]) -> Any:
    """Make a YOLACT detect; returns it in eval mode."""
    images = batch_of(photos, size, model)
    with_statistics(model, images)
    with torch.no_grad():
        towers = [model.tower(f) for f in model.backbone(images).values()]
        for layer, std, mean in (
            (model.logits, 1.5, 0.0),
            (model.codes, 0.7, 0.0),
            (model.coefficients, 1.0, 0.0),
        ):
            spread(layer, [layer(t) for t in towers], std, mean)
        model.logits.bias[:: model.num_classes] += 4.0
        model.protonet.last.weight.mul_(4.0 / model.protonet(model.backbone(images)["0"]).std())
    return model.eval()
