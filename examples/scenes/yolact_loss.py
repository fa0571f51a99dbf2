"""YOLACT's losses: classes, smooth L1 of codes, masks inside boxes, semantics.

An anchor is positive for the object that it overlaps most, if with IoU 0.5 or more or if no other
anchor overlaps the object better, and negative below 0.4. The loss of classes is the focal loss of
all anchors, which the authors' program offers beside the paper's cross entropy with hard negatives:
it learns faster. A mask's error is averaged over its object's box. From Bolya et al., arXiv
1904.02689; the weights are the authors', but for the focal loss, whose sum is smaller.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torchvision.ops import box_iou

from maskrt.export.families.yolact import MASK_STRIDE, VARIANCES, Yolact, YolactHeads

POSITIVE, NEGATIVE = 0.5, 0.4
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
WEIGHTS = {"class": 4.0, "box": 1.5, "mask": 6.125, "semantic": 1.0}
MASKS_PER_PICTURE = 48  # anchors a picture whose masks are compared


def match(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Return each anchor's object: its index, -1 for background, -2 for neither.

    Args:
        anchors: centre and sides `[N, 4]`.
        boxes: xyxy `[G, 4]`.
    """
    if not len(boxes):
        return torch.full((len(anchors),), -1)
    half = anchors[:, 2:] / 2
    overlap = box_iou(torch.cat([anchors[:, :2] - half, anchors[:, :2] + half], 1), boxes)
    best, owners = overlap.max(1)
    owners = torch.where(best >= POSITIVE, owners, torch.where(best < NEGATIVE, -1, -2))
    owners[overlap.argmax(0)] = torch.arange(len(boxes))
    return owners


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the codes that `decode` turns into `boxes`."""
    centre, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    shift = (centre - anchors[:, :2]) / (VARIANCES[0] * anchors[:, 2:])
    return torch.cat([shift, (sides / anchors[:, 2:]).log() / VARIANCES[1]], 1)


def focal_loss(logits: Tensor, owners: Tensor, labels: Tensor) -> Tensor:
    """Return one picture's focal loss of the softmax, summed over positives and negatives."""
    positive = owners >= 0
    wanted = torch.zeros_like(owners)
    wanted[positive] = labels[owners[positive]]
    certainty = F.log_softmax(logits, 1).gather(1, wanted[:, None])[:, 0]
    share = torch.where(positive, FOCAL_ALPHA, 1 - FOCAL_ALPHA) * (owners != -2)
    return -(share * (1 - certainty.exp()) ** FOCAL_GAMMA * certainty).sum()


def mask_loss(logits: Tensor, masks: Tensor, boxes: Tensor) -> Tensor:
    """Return the cross entropy of each mask `[n, h, w]`, averaged over its box in pixels."""
    rows, columns = (torch.arange(n) for n in logits.shape[-2:])
    x1, y1, x2, y2 = (boxes / MASK_STRIDE).T[..., None]
    inside = ((rows >= y1.floor()) & (rows < y2.ceil()))[:, :, None]
    inside = inside & ((columns >= x1.floor()) & (columns < x2.ceil()))[:, None]
    losses = F.binary_cross_entropy_with_logits(logits, masks, reduction="none") * inside
    return losses.sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)


def semantic_loss(logits: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
    """Return one picture's mean cross entropy of `[C, h, w]`; classes may share a pixel."""
    wanted = torch.zeros_like(logits)
    if not len(masks):
        return (
            F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / logits[0].numel()
        )
    small = F.interpolate(masks[None].float(), logits.shape[-2:], mode="area")[0] >= 0.5
    for label, mask in zip(labels, small, strict=True):
        wanted[label - 1] = torch.maximum(wanted[label - 1], mask.float())
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / logits[0].numel()


def yolact_losses(
    model: Yolact, heads: YolactHeads, truths: Sequence[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the losses on a batch.

    Args:
        model: in training mode.
        heads: what it said of the batch.
        truths: for each picture `boxes [G, 4]`, `labels [G]` from 1 on, `masks [G, H, W]`, the
            sides of pictures being multiples of 8.
    """
    shapes = [level.codes.shape[-2:] for level in heads.levels]
    anchors = model.anchors.boxes(shapes, truths[0]["masks"].shape[-2:])
    rows = _rows(model, heads)
    parts = [
        picture_losses([r[b] for r in rows], heads, b, anchors, truth)
        for b, truth in enumerate(truths)
    ]
    positives = max(sum(int(part["positives"]) for part in parts), 1)
    counts = dict.fromkeys(WEIGHTS, positives) | {"semantic": len(truths)}
    return {
        name: WEIGHTS[name] * sum(part[name] for part in parts) / counts[name] for name in WEIGHTS
    }


def picture_losses(
    rows: Sequence[Tensor],
    heads: YolactHeads,
    index: int,
    anchors: Tensor,
    truth: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Return sums over the positive anchors of one picture, their number, and the semantic loss.

    Args:
        rows: logits, codes, coefficients `[N, ·]` of the picture.
        heads: of the batch.
        index: the picture's.
        anchors: `[N, 4]`.
        truth: the picture's.
    """
    logits, codes, coefficients = rows
    owners = match(anchors, truth["boxes"])
    place = torch.nonzero(owners >= 0)[:, 0]
    owned = truth["boxes"][owners[place]]
    aims = encode(owned, anchors[place])
    some = torch.randperm(len(place))[:MASKS_PER_PICTURE]
    said = torch.einsum("nk,khw->nhw", coefficients[place[some]], heads.prototypes[index])
    quarter = F.avg_pool2d(truth["masks"][:, None].float(), MASK_STRIDE)[:, 0] >= 0.5
    errors = mask_loss(said, quarter[owners[place[some]]].float(), owned[some])
    return {
        "positives": torch.tensor(len(place)),
        "class": focal_loss(logits, owners, truth["labels"]),
        "box": F.smooth_l1_loss(codes[place], aims, reduction="sum"),
        "mask": errors.sum() * len(place) / max(len(some), 1),
        "semantic": semantic_loss(heads.semantic[index], truth["masks"], truth["labels"]),
    }


def _rows(model: Yolact, heads: YolactHeads) -> list[Tensor]:
    """Return logits, codes and coefficients `[B, N, ·]`."""
    lengths = (model.num_classes, 4, heads.prototypes.shape[1])
    return [
        torch.cat([level[i].permute(0, 2, 3, 1).flatten(1) for level in heads.levels], 1).unflatten(
            1, (-1, n)
        )
        for i, n in enumerate(lengths)
    ]
