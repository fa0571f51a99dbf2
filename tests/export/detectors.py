"""Detectors with weights that detect: untrained, yet their scores vary as a trained one's.

A detector fresh from its builder gives every anchor nearly the same score; then any rounding
reorders them and no two programs agree. `enliven` takes batch-norm statistics from real photos,
scales the last layers so that logits spread, and lowers the number of detections to where the last
one kept and the first one cut differ in every picture: which of two equals is kept says nothing.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

CHANNELS = 16
CLEAR = 1e-3  # scores nearer than this may change places between two programs


class TinyBackbone(nn.Module):
    """A few convolutions, and an FPN of `levels` levels with one more by pooling."""

    def __init__(self, levels: int = 3) -> None:
        super().__init__()
        widths = [8, 12, 16, 20][:levels]
        self.stem = _block(3, 8)
        self.stages = nn.ModuleList(
            _block(w_in, w_out) for w_in, w_out in zip([8, *widths], widths, strict=False)
        )
        self.fpn = FeaturePyramidNetwork(widths, CHANNELS, LastLevelMaxPool())
        self.out_channels = CHANNELS

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        x = self.stem(x)
        found = OrderedDict()
        for index, stage in enumerate(self.stages):
            x = stage(x)
            found[str(index)] = x
        return self.fpn(found)


class OneMap(nn.Module):
    """A backbone that returns a single tensor, as torchvision's own tutorial has it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(_block(3, 8), _block(8, 12), _block(12, CHANNELS))
        self.out_channels = CHANNELS

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def _block(w_in: int, w_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(w_in, w_out, 3, 2, 1, bias=False), nn.BatchNorm2d(w_out), nn.ReLU()
    )


def tiny_mask_rcnn(levels: int = 3, num_classes: int = 5, **options: Any) -> MaskRCNN:
    """Return a Mask R-CNN with every part other than torchvision's default."""
    names = [str(i) for i in range(levels)]
    sizes = tuple((size, size * 1.5) for size in (12, 24, 48, 96, 160)[: levels + 1])
    defaults = {
        "rpn_anchor_generator": AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * (levels + 1)),
        "box_roi_pool": MultiScaleRoIAlign(names, 5, 2),
        "box_head": TwoMLPHead(CHANNELS * 25, 32),
        "box_predictor": FastRCNNPredictor(32, num_classes),
        "mask_roi_pool": MultiScaleRoIAlign(names, 10, 2),
        "mask_head": MaskRCNNHeads(CHANNELS, (12, 12), 1),
        "mask_predictor": MaskRCNNPredictor(12, 12, num_classes),
        "rpn_pre_nms_top_n_test": 200,
        "rpn_post_nms_top_n_test": 150,
        "box_detections_per_img": 30,
        "box_score_thresh": 0.1,
    }
    return MaskRCNN(TinyBackbone(levels), None, **{**defaults, **options})


def tiny_one_map(num_classes: int = 4) -> FasterRCNN:
    """Return a Faster R-CNN on one feature map."""
    return FasterRCNN(
        OneMap(),
        None,
        rpn_anchor_generator=AnchorGenerator(((16, 32, 64, 128),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 5, 2),
        box_head=TwoMLPHead(CHANNELS * 25, 32),
        box_predictor=FastRCNNPredictor(32, num_classes),
        rpn_post_nms_top_n_test=120,
    )


def enliven(model: Any, photos: Sequence[np.ndarray], seed: int = 0) -> Any:
    """Give `model` statistics and a spread of logits from `photos`; returns it in eval mode."""
    torch.manual_seed(seed)
    images = [torch.from_numpy(np.ascontiguousarray(p)).permute(2, 0, 1) / 255 for p in photos]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        model.train()
        batch, _ = model.transform(images)
        model.backbone(batch.tensors)
        model.eval()
        _spread_rpn(model, batch.tensors)
        _spread_heads(model, images)
        _cut_between_clear_scores(model, images)
    return model


def _spread_rpn(model: Any, tensors: Tensor) -> None:
    features = model.backbone(tensors)
    levels = [features] if isinstance(features, Tensor) else list(features.values())
    head = model.rpn.head
    for layer, outputs, spread in zip(
        (head.cls_logits, head.bbox_pred), head(levels), (2.0, 0.3), strict=True
    ):
        layer.weight.mul_(spread / torch.cat([o.flatten() for o in outputs]).std())


def _spread_heads(model: Any, images: list[Tensor]) -> None:
    heads = model.roi_heads
    threshold, heads.score_thresh = heads.score_thresh, 0.0
    targets = [(heads.box_predictor.cls_score, 2.5), (heads.box_predictor.bbox_pred, 0.7)]
    if heads.has_mask():
        targets.append((heads.mask_predictor.mask_fcn_logits, 2.0))
    for layer, spread in targets:
        rows: list[Tensor] = []
        hook = layer.register_forward_hook(lambda _m, _i, out, rows=rows: rows.append(out))
        model(images)
        hook.remove()
        output = rows[0].transpose(0, 1).flatten(1)
        scale = spread / output.std(1).mean()
        layer.weight.mul_(scale)
        layer.bias.copy_(layer.bias * scale - output.mean(1) * scale)
    heads.score_thresh = threshold


def _cut_between_clear_scores(model: Any, images: list[Tensor]) -> None:
    heads = model.roi_heads
    asked = heads.detections_per_img
    heads.detections_per_img = asked + 1
    scores = [found["scores"].sort(descending=True).values for found in model(images)]

    def margin(number: int) -> float:
        return min(
            (float(rows[number - 1] - rows[number]) for rows in scores if len(rows) > number),
            default=1.0,
        )

    heads.detections_per_img = max(
        range(asked, asked // 2, -1), key=lambda number: min(margin(number), CLEAR)
    )
