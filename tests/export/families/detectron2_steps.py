"""detectron2's Mask and Faster R-CNN inference with an FPN, step by step on its own state dict.

Written from detectron2's modules (GeneralizedRCNN, RPN, StandardROIHeads), with nothing of maskrt
and nothing of torchvision's detectors, as the reference of what maskrt makes of its weights.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torchvision.ops import nms, roi_align

MEAN_BGR = (103.53, 116.28, 123.675)
State = dict[str, Tensor]


@dataclass(frozen=True)
class Config:
    """What a configuration says and no parameter shows; defaults are R50-FPN's."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    groups: int = 1
    stride_in_1x1: bool = True
    rgb: bool = False
    mean: tuple[float, ...] = MEAN_BGR  # in the order of the format, as `std`
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


R50 = Config()


def detect(s: State, rgb: Tensor, threshold: float, most: int) -> dict[str, Tensor]:
    """Detect in one picture, uint8 `[H, W, 3]`."""
    maps, size = features(s, rgb), (rgb.shape[0], rgb.shape[1])
    boxes = proposals(s, maps, size)
    boxes, scores, labels = classified(s, maps, boxes, size, threshold, most)
    found = {"boxes": boxes, "scores": scores, "labels": labels}
    masked = "roi_heads.mask_head.predictor.weight" in s
    return {**found, "masks": masks(s, maps, boxes, labels)} if masked else found


def features(s: State, rgb: Tensor, config: Config = R50) -> list[Tensor]:
    x = (rgb if config.rgb else rgb.flip(2)).permute(2, 0, 1).float()
    x = (x - torch.tensor(config.mean)[:, None, None]) / torch.tensor(config.std)[:, None, None]
    height, width = rgb.shape[:2]
    x = F.pad(x, (0, -width % 32, 0, -height % 32))[None]
    prefix = "backbone.bottom_up."
    x = F.relu(
        _norm(s, f"{prefix}stem.conv1", F.conv2d(x, s[f"{prefix}stem.conv1.weight"], None, 2, 3))
    )
    x = F.max_pool2d(x, 3, 2, 1)
    found = []
    for stage, blocks in enumerate(config.blocks):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            x = _bottleneck(s, f"{prefix}res{stage + 2}.{block}", x, stride, config)
        found.append(x)
    inner, maps = None, []
    for level in (5, 4, 3, 2):
        lateral = _conv(s, f"backbone.fpn_lateral{level}", found[level - 2])
        inner = lateral if inner is None else lateral + F.interpolate(inner, scale_factor=2.0)
        maps.insert(0, _conv(s, f"backbone.fpn_output{level}", inner, padding=1))
    return [*maps, F.max_pool2d(maps[-1], 1, 2)]


def _bottleneck(s: State, name: str, x: Tensor, stride: int, config: Config) -> Tensor:
    first, second = (stride, 1) if config.stride_in_1x1 else (1, stride)
    y = F.relu(_norm(s, f"{name}.conv1", F.conv2d(x, s[f"{name}.conv1.weight"], None, first)))
    middle = F.conv2d(y, s[f"{name}.conv2.weight"], None, second, 1, 1, config.groups)
    y = F.relu(_norm(s, f"{name}.conv2", middle))
    y = _norm(s, f"{name}.conv3", F.conv2d(y, s[f"{name}.conv3.weight"]))
    if f"{name}.shortcut.weight" in s:
        x = _norm(s, f"{name}.shortcut", F.conv2d(x, s[f"{name}.shortcut.weight"], None, stride))
    return F.relu(x + y)


def _norm(s: State, name: str, x: Tensor) -> Tensor:
    return F.batch_norm(
        x, s[f"{name}.norm.running_mean"], s[f"{name}.norm.running_var"],
        s[f"{name}.norm.weight"], s[f"{name}.norm.bias"], eps=1e-5,
    )  # fmt: skip


def _conv(s: State, name: str, x: Tensor, padding: int = 0) -> Tensor:
    return F.conv2d(x, s[f"{name}.weight"], s[f"{name}.bias"], padding=padding)


def rpn(s: State, map_: Tensor) -> tuple[Tensor, Tensor]:
    head = "proposal_generator.rpn_head"
    x = F.relu(_conv(s, f"{head}.conv", map_, padding=1))
    return _conv(s, f"{head}.objectness_logits", x), _conv(s, f"{head}.anchor_deltas", x)


def proposals(s: State, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
    boxes, scores = [], []
    for level, map_ in enumerate(maps):
        logits, deltas = rpn(s, map_)
        height, width = logits.shape[-2:]
        flat = logits[0].permute(1, 2, 0).reshape(-1)
        codes = deltas[0].reshape(3, 4, height, width).permute(2, 3, 0, 1).reshape(-1, 4)
        best, index = flat.topk(min(1000, len(flat)))
        found = _decode(codes, _anchors(level, height, width), (1.0, 1.0, 1.0, 1.0))[index]
        found = _clipped(found, size)
        real = ((found[:, 2] - found[:, 0]) > 0) & ((found[:, 3] - found[:, 1]) > 0)
        found, best = found[real], best[real]
        kept = nms(found, best, 0.7)
        boxes.append(found[kept])
        scores.append(best[kept])
    order = torch.cat(scores).argsort(descending=True, stable=True)[:1000]
    return torch.cat(boxes)[order]


def _anchors(level: int, height: int, width: int) -> Tensor:
    stride, size = 4 * 2**level, 32 * 2**level
    rows = []
    for y in range(height):
        for x in range(width):
            for ratio in (0.5, 1.0, 2.0):
                w = math.sqrt(size**2 / ratio)
                h = ratio * w
                cx, cy = x * stride, y * stride
                rows.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    return torch.tensor(rows)


def _decode(codes: Tensor, boxes: Tensor, weights: tuple[float, ...]) -> Tensor:
    dx, dy, dw, dh = (codes / torch.tensor(weights)).unbind(-1)
    limit = math.log(1000.0 / 16)
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    x, y = boxes[:, 0] + 0.5 * w + dx * w, boxes[:, 1] + 0.5 * h + dy * h
    w, h = w * dw.clamp(max=limit).exp(), h * dh.clamp(max=limit).exp()
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)


def _clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    edges = torch.tensor([size[1], size[0], size[1], size[0]], dtype=torch.float32)
    return torch.minimum(boxes.clamp(min=0), edges)


def _pooled(maps: list[Tensor], boxes: Tensor, size: int) -> Tensor:
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    level = torch.floor(4 + torch.log2(area.sqrt() / 224 + 1e-8)).clamp(2, 5).long() - 2
    rows = torch.cat([torch.zeros(len(boxes), 1), boxes], 1)
    out = torch.zeros(len(boxes), 256, size, size)
    for i in range(4):
        mine = level == i
        out[mine] = roi_align(maps[i], rows[mine], size, 1 / (4 * 2**i), 0, aligned=True)
    return out


def box_scores(s: State, maps: list[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
    x = _pooled(maps, boxes, 7).flatten(1)
    for name in ("fc1", "fc2"):
        x = F.relu(
            F.linear(
                x, s[f"roi_heads.box_head.{name}.weight"], s[f"roi_heads.box_head.{name}.bias"]
            )
        )
    outputs: list[Any] = [
        F.linear(
            x,
            s[f"roi_heads.box_predictor.{name}.weight"],
            s[f"roi_heads.box_predictor.{name}.bias"],
        )
        for name in ("cls_score", "bbox_pred")
    ]
    return outputs[0], outputs[1]


def classified(
    s: State, maps: list[Tensor], boxes: Tensor, size: tuple[int, int], threshold: float, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    logits, codes = box_scores(s, maps, boxes)
    probabilities = logits.softmax(1)[:, :-1]
    found = []
    for label in range(probabilities.shape[1]):
        rows = torch.nonzero(probabilities[:, label] > threshold)[:, 0]
        mine = _decode(codes[rows, 4 * label : 4 * label + 4], boxes[rows], (10.0, 10.0, 5.0, 5.0))
        mine = _clipped(mine, size)
        kept = nms(mine, probabilities[rows, label], 0.5)
        found += [(mine[k], probabilities[rows[k], label], label) for k in kept]
    found = sorted(found, key=lambda row: -float(row[1]))[:most]
    return (
        torch.stack([row[0] for row in found]),
        torch.stack([row[1] for row in found]),
        torch.tensor([row[2] for row in found]),
    )


def masks(s: State, maps: list[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
    x = _pooled(maps, boxes, 14)
    for i in range(1, 5):
        x = F.relu(_conv(s, f"roi_heads.mask_head.mask_fcn{i}", x, padding=1))
    weight = s["roi_heads.mask_head.deconv.weight"]
    x = F.relu(F.conv_transpose2d(x, weight, s["roi_heads.mask_head.deconv.bias"], stride=2))
    x = _conv(s, "roi_heads.mask_head.predictor", x)
    return x[torch.arange(len(x)), labels].sigmoid()
