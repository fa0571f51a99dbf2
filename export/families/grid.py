"""What SOLO and SOLOv2 share: instances by location, one for each cell of a grid.

The picture is cut into S x S cells on each of five levels; a cell names the category of the object
whose centre lies in it, and stands for that object's mask. Levels take P2 … P6 at strides 8, 8, 16,
32, 32: P2 is halved and P6 doubled.

Source: Wang et al., SOLO: Segmenting Objects by Locations (2020), and SOLOv2: Dynamic and Fast
Instance Segmentation (2020). Where the papers leave a number open, it is their published code's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ...core import UsageError
from .layers import Tower, prior_bias, resized

__all__ = ["MASK_THRESHOLD", "CategoryBranch", "GridSettings", "grid_maps"]

MASK_THRESHOLD = 0.5  # an element belongs to the mask above it, here as where masks are pasted
_NMS = ("matrix", "mask")
_DECAYS = ("linear", "gaussian")


@dataclass(frozen=True)
class GridSettings:
    """How cells are laid out, and how detections are chosen.

    Attributes:
        grids: cells a side, for each level.
        strides: canvas pixels of each level's map; a mask needs more elements than that.
        scale_ranges: of the side (root of the box's area, canvas pixels) of the objects that a
            level is trained on.
        centre: share of the box around the centre of mass whose cells are positive.
        score_threshold: a candidate's category score is greater.
        candidates: that reach NMS; `nms_pre` of the published code.
        nms: "matrix", or "mask": greedy, by mask IoU.
        method: of matrix NMS, "gaussian" or "linear".
        sigma: of the Gaussian.
        overlap_threshold: of greedy NMS; an IoU above it removes the lower score.
        final_threshold: a detection's score after matrix NMS is at least this.
    """

    grids: tuple[int, ...] = (40, 36, 24, 16, 12)
    strides: tuple[int, ...] = (8, 8, 16, 32, 32)
    scale_ranges: tuple[tuple[float, float], ...] = (
        (1, 96), (48, 192), (96, 384), (192, 768), (384, 2048),
    )  # fmt: skip
    centre: float = 0.2
    score_threshold: float = 0.1
    candidates: int = 500
    nms: str = "matrix"
    method: str = "gaussian"
    sigma: float = 2.0
    overlap_threshold: float = 0.5
    final_threshold: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        levels = {len(self.grids), len(self.strides), len(self.scale_ranges)}
        if len(levels) != 1:
            raise UsageError(
                f"grids, strides and scale_ranges have {sorted(levels)} levels: give as many of "
                "each."
            )
        for name, known in (("nms", _NMS), ("method", _DECAYS)):
            value = getattr(self, name)
            if value not in known:
                raise UsageError(f"{name} is {value!r}, and must be one of {', '.join(known)}.")


class CategoryBranch(nn.Module):
    """Maps → category logits `[B, classes, S, S]` of each level."""

    def __init__(
        self,
        inputs: int,
        channels: int,
        depth: int,
        classes: int,
        grids: tuple[int, ...],
        norm: str,
    ) -> None:
        """Make the branch; `classes` without background."""
        super().__init__()
        self.grids = grids
        self.tower = Tower(inputs, channels, depth, norm=norm, levels=len(grids))
        self.logits = nn.Conv2d(channels, classes, 3, padding=1)
        prior_bias(self.logits)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the logits of each level."""
        return [
            self.logits(self.tower(resized(x, (grid, grid)), level))
            for level, (x, grid) in enumerate(zip(maps, self.grids, strict=True))
        ]


def grid_maps(maps: Mapping[str, Tensor]) -> list[Tensor]:
    """Return P2 … P6 as the levels take them: P2 at half its size, P6 at P5's."""
    p2, *middle, p6 = maps.values()
    height, width = p2.shape[2:]
    return [
        resized(p2, (height // 2, width // 2)),
        *middle,
        resized(p6, (middle[-1].shape[2], middle[-1].shape[3])),
    ]
