"""CondInst's losses: focal loss, GIoU, centerness and dice, with FCOS's choice of targets.

A location is positive for the smallest object that contains it, if it lies within 1.5 strides of
the object's centre of mass and the object's size fits its level. From Tian et al., arXiv 1904.01355
(FCOS) and arXiv 2003.05664 (CondInst); the details are AdelaiDet's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from maskrt.export.families.condinst import MASK_STRIDE, CondInst, CondInstHeads
from maskrt.export.families.fcos import flatten_level, locations

CENTRE_RADIUS = 1.5  # strides around the centre of mass in which locations are positive
MASKS_PER_PICTURE = 48  # locations a picture whose masks are compared
OUTSIDE = 1e8


class Targets(NamedTuple):
    """What each location of one picture should say.

    Attributes:
        owners: index of its object, -1 for none, `[N]`.
        distances_px: to the sides of the object's box, `[N, 4]`.
    """

    owners: Tensor
    distances_px: Tensor


class Places(NamedTuple):
    """All locations of all levels: `points [N, 2]`, and of each its level's `strides [N]`,
    `sizes [N]` of interest and `ranges [N, 2]` of distances."""

    points: Tensor
    strides: Tensor
    sizes: Tensor
    ranges: Tensor


def places(model: CondInst, shapes: Sequence[Sequence[int]]) -> Places:
    """Lay out the locations of maps of `shapes` (height, width)."""
    counts = torch.tensor([h * w for h, w in shapes])
    points = [locations(h, w, s) for (h, w), s in zip(shapes, model.strides, strict=True)]
    highs = [*map(float, model.sizes_of_interest[:-1]), OUTSIDE]
    ranges = torch.tensor(list(zip([-1.0, *highs[:-1]], highs, strict=True)))
    strides = torch.tensor(model.strides, dtype=torch.float32)
    sizes = torch.tensor(model.sizes_of_interest, dtype=torch.float32)
    return Places(
        torch.cat(points), *(t.repeat_interleave(counts, 0) for t in (strides, sizes, ranges))
    )


def targets(where: Places, boxes: Tensor, masks: Tensor) -> Targets:
    """Choose each location's object among `boxes [G, 4]` with `masks bool [G, H, W]`."""
    if not len(boxes):
        none = torch.full((len(where.points),), -1)
        return Targets(none, torch.zeros(len(none), 4))
    points = where.points[:, None]
    distances = torch.cat([points - boxes[:, :2], boxes[:, 2:] - points], -1)
    centres, radius = centres_of_mass(masks), CENTRE_RADIUS * where.strides[:, None, None]
    region = torch.cat(
        [
            points - torch.maximum(centres - radius, boxes[:, :2]),
            torch.minimum(centres + radius, boxes[:, 2:]) - points,
        ],
        -1,
    )
    longest = distances.amax(-1)
    fits = (longest >= where.ranges[:, :1]) & (longest <= where.ranges[:, 1:])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    cost = torch.where((region.amin(-1) > 0) & fits, area, OUTSIDE)
    least, owners = cost.min(1)
    chosen = distances[torch.arange(len(owners)), owners]
    return Targets(torch.where(least < OUTSIDE, owners, -1), chosen)


def centres_of_mass(masks: Tensor) -> Tensor:
    """Return `(x, y)` in pixels of `masks bool [G, H, W]`: `[G, 2]`."""
    weight = masks.float()
    total = weight.sum((1, 2)).clamp(min=1e-6)
    x = weight.sum(1) @ torch.arange(masks.shape[2], dtype=torch.float32)
    y = weight.sum(2) @ torch.arange(masks.shape[1], dtype=torch.float32)
    return torch.stack([x, y], 1) / total[:, None]


def centerness(distances: Tensor) -> Tensor:
    """Return `sqrt(min/max of left, right · min/max of top, bottom)`."""
    x, y = distances[:, [0, 2]], distances[:, [1, 3]]
    ratio = (x.amin(1) / x.amax(1)) * (y.amin(1) / y.amax(1))
    return ratio.clamp(min=0).sqrt()


def dice_loss(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Return `1 - 2 Σpt / (Σp² + Σt²)` of each row of `[n, h, w]`."""
    p, t = probabilities.flatten(1), truth.flatten(1)
    return 1 - 2 * (p * t).sum(1) / ((p * p).sum(1) + (t * t).sum(1) + 1e-5)


def condinst_losses(
    model: CondInst, heads: CondInstHeads, truths: Sequence[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the losses on a batch.

    Args:
        model: in training mode.
        heads: what it said of the batch, whose sides are multiples of 32.
        truths: for each picture `boxes [G, 4]`, `labels [G]` from 1 on, `masks [G, H, W]`.
    """
    levels, parameters, features = heads
    where = places(model, [level.logits.shape[-2:] for level in levels])
    aims = [targets(where, t["boxes"], t["masks"]) for t in truths]
    owners = torch.stack([aim.owners for aim in aims])
    picture, place = torch.nonzero(owners >= 0, as_tuple=True)
    number = max(len(place), 1)
    logits = torch.cat([flatten_level(level.logits) for level in levels], 1)
    wanted = wanted_classes(logits, owners, [t["labels"] for t in truths])
    aimed = torch.stack([aim.distances_px for aim in aims])[picture, place]
    aimed = aimed / where.strides[place, None]
    said = torch.cat([flatten_level(level.distances) for level in levels], 1)[picture, place]
    central = centerness(aimed)
    score = torch.cat([flatten_level(level.centerness) for level in levels], 1)[picture, place, 0]
    overlap = generalized_box_iou_loss(_around_origin(said), _around_origin(aimed))
    return {
        "class": sigmoid_focal_loss(logits, wanted, reduction="sum") / number,
        "box": (overlap * central).sum() / central.sum().clamp(min=1e-6),
        "centerness": F.binary_cross_entropy_with_logits(score, central, reduction="sum") / number,
        "mask": _mask_loss(
            model, features, torch.cat([flatten_level(p) for p in parameters], 1), where,
            owners, truths,
        ),
    }  # fmt: skip


def wanted_classes(logits: Tensor, owners: Tensor, labels: Sequence[Tensor]) -> Tensor:
    """Return 1 where a location `[B, N, C]` has an object of that class, else 0."""
    wanted = torch.zeros_like(logits)
    picture, place = torch.nonzero(owners >= 0, as_tuple=True)
    first = torch.tensor([0, *(len(one) for one in labels)]).cumsum(0)
    wanted[picture, place, torch.cat(list(labels))[first[picture] + owners[picture, place]] - 1] = 1
    return wanted


def _mask_loss(
    model: CondInst,
    features: Tensor,
    parameters: Tensor,
    where: Places,
    owners: Tensor,
    truths: Sequence[dict[str, Tensor]],
) -> Tensor:
    losses, number = [features.sum() * 0], 0  # the parameters always get a gradient
    for b, truth in enumerate(truths):
        place = torch.nonzero(owners[b] >= 0)[:, 0]
        place = place[torch.randperm(len(place))[:MASKS_PER_PICTURE]]
        if not len(place):
            continue
        logits = model.masks(
            features[b], parameters[b, place], where.points[place], where.sizes[place]
        )
        quarter = F.avg_pool2d(truth["masks"][None].float(), MASK_STRIDE)[0] >= 0.5
        losses.append(dice_loss(logits.sigmoid(), quarter[owners[b, place]].float()))
        number += len(place)
    return sum(loss.sum() for loss in losses) / max(number, 1)


def _around_origin(distances: Tensor) -> Tensor:
    return torch.cat([-distances[:, :2], distances[:, 2:]], 1)
