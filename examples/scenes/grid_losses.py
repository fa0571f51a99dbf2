"""What SOLO and SOLOv2 are trained on: positive cells, focal loss, Dice loss.

An object belongs to every level whose scale range holds its size (the root of its box's area).
There its cells are those of the centre region: the box shrunk to `centre` of its sides around the
mask's centre of mass, and no further than one cell from it. Where regions meet the smaller object
wins.

    L = focal(categories) / (positives + 1) + 3 · mean Dice(masks of the positive cells)
    Dice(p, q) = 1 - 2 Σ p q / (Σ p² + Σ q²)

Masks are averaged down to the resolution of the predictions, so a target on an edge is between 0
and 1. Source: Wang et al., SOLO (2020), section 3.3, and SOLOv2 (2020); Lin et al., Focal Loss for
Dense Object Detection (2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from maskrt.export.families.grid import GridSettings
from maskrt.export.families.solo import SOLO, SOLOHeads
from maskrt.export.families.solov2 import SOLOv2, SOLOv2Heads

MASK_WEIGHT = 3.0


@dataclass
class Positives:
    """The positive cells of one picture.

    Attributes:
        owners: of each level's cells, int64 `[S, S]`: number of the object, or -1.
        masks: of the objects, float `[N, H, W]`.
        labels: int64 `[N]`, from 1.
    """

    owners: list[Tensor]
    masks: Tensor
    labels: Tensor


def positives(target: dict[str, Tensor], settings: GridSettings) -> Positives:
    """Assign the objects of one picture to cells."""
    masks, boxes = target["masks"].float(), target["boxes"]
    height, width = masks.shape[1:]
    sides = boxes[:, 2:] - boxes[:, :2]
    size = sides.prod(1).sqrt()
    area = masks.sum((1, 2))
    across = (masks.sum(1) * (torch.arange(width) + 0.5)).sum(1) / area
    down = (masks.sum(2) * (torch.arange(height) + 0.5)).sum(1) / area
    owners = []
    for grid, (least, most) in zip(settings.grids, settings.scale_ranges, strict=True):
        owner = torch.full((grid, grid), -1)
        here = torch.nonzero((size >= least) & (size <= most))[:, 0]
        for number in here[area[here].argsort(descending=True)].tolist():
            half = 0.5 * settings.centre * sides[number]
            rows = _region(float(down[number]), float(half[1]), height, grid)
            columns = _region(float(across[number]), float(half[0]), width, grid)
            owner[rows, columns] = number
        owners.append(owner)
    return Positives(owners, masks, target["labels"])


def _region(centre: float, half: float, length: int, grid: int) -> slice:
    """Return the cells of one side that the centre region covers."""
    middle = int(centre / length * grid)
    first = max(int((centre - half) / length * grid), middle - 1, 0)
    last = min(int((centre + half) / length * grid), middle + 1, grid - 1)
    return slice(first, last + 1)


def category_loss(logits: list[Tensor], found: list[Positives]) -> Tensor:
    """Return the focal loss over all cells of a batch."""
    rows = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in logits])
    truth = torch.zeros_like(rows)
    labels = []
    for level in range(len(logits)):
        for one in found:
            owner = one.owners[level].flatten()
            label = one.labels[owner.clamp(min=0)] if len(one.labels) else owner.clamp(min=0)
            labels.append(torch.where(owner >= 0, label, 0))
    label = torch.cat(labels)
    positive = label > 0
    truth[positive, label[positive] - 1] = 1.0
    return sigmoid_focal_loss(rows, truth, alpha=0.25, gamma=2.0).sum() / (positive.sum() + 1)


def dice(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the Dice loss of each row of `[P, pixels]`."""
    shared = (predicted * truth).sum(1)
    return 1 - 2 * shared / ((predicted**2).sum(1) + (truth**2).sum(1) + 1e-3)


def smaller(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Return masks `[N, H, W]` averaged to `size`, as rows."""
    return torch.nn.functional.adaptive_avg_pool2d(masks[:, None], size).flatten(1)


def solov2_losses(
    model: SOLOv2, heads: SOLOv2Heads, targets: list[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the losses of a batch."""
    found = [positives(target, model.settings) for target in targets]
    losses = []
    height, width = heads.feature.shape[2:]
    for index, one in enumerate(found):
        kernels = torch.cat([level[index].flatten(1).T for level in heads.kernels])
        owner = torch.cat([level.flatten() for level in one.owners])
        cells = torch.nonzero(owner >= 0)[:, 0]
        if len(cells):
            predicted = (kernels[cells] @ heads.feature[index].flatten(1)).sigmoid()
            losses.append(dice(predicted, smaller(one.masks, (height, width))[owner[cells]]))
    return {
        "loss_category": category_loss(heads.categories, found),
        "loss_mask": MASK_WEIGHT * _mean(losses, heads.feature),
    }


def solo_losses(
    model: SOLO, heads: SOLOHeads, targets: list[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the losses of a batch, of vanilla or decoupled SOLO."""
    found = [positives(target, model.settings) for target in targets]
    losses = []
    for level, grid in enumerate(model.settings.grids):
        maps = [logits.sigmoid() for logits in model.level_masks(heads, level)]
        size = (maps[0].shape[2], maps[0].shape[3])
        for index, one in enumerate(found):
            owner = one.owners[level].flatten()
            cells = torch.nonzero(owner >= 0)[:, 0]
            if not len(cells):
                continue
            if model.decoupled:
                predicted = maps[0][index][cells % grid] * maps[1][index][cells // grid]
            else:
                predicted = maps[0][index][cells]
            truth = smaller(one.masks, size)[owner[cells]]
            losses.append(dice(predicted.flatten(1), truth))
    return {
        "loss_category": category_loss(heads.categories, found),
        "loss_mask": MASK_WEIGHT * _mean(losses, heads.categories[0]),
    }


def _mean(losses: list[Tensor], any_output: Tensor) -> Tensor:
    return torch.cat(losses).mean() if losses else any_output.sum() * 0.0
