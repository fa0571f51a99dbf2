"""SOLOv2: each cell predicts a kernel, and one shared mask feature is convolved with it.

    category branch   P2 … P6 at S x S → category logits [B, classes, S, S] of each level
    kernel branch     the same maps with coordinates → kernels [B, E, S, S]
    mask branch       P2 … P5, the last with coordinates, at stride 4 and summed → [B, E, h, w]
    mask of a cell    sigmoid(kernel · feature): a 1x1 convolution by the cell's kernel

In the graph the dynamic convolution is one batched product of `[B, K, E]` kernels of the K best
cells with `[B, E, h w]`.

Source: Wang et al., SOLOv2: Dynamic and Fast Instance Segmentation (2020).
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...core import InputSpec
from . import grid_graph, grid_reference
from .grid import CategoryBranch, GridSettings, grid_maps
from .layers import ConvNorm, Tower, coordinates, resized
from .one_stage import Detections, OneStage, OneStageGraph, quarter

__all__ = ["SOLOv2", "SOLOv2Graph", "SOLOv2Heads"]


class SOLOv2Heads(NamedTuple):
    """What the heads say of a batch.

    Attributes:
        categories: logits `[B, classes, S, S]` of each level.
        kernels: `[B, E, S, S]` of each level.
        feature: `[B, E, h, w]` at stride 4 of the padded input.
    """

    categories: list[Tensor]
    kernels: list[Tensor]
    feature: Tensor


class KernelBranch(nn.Module):
    """Maps → kernels `[B, E, S, S]` of each level."""

    def __init__(
        self, inputs: int, channels: int, depth: int, kernel: int, grids: tuple[int, ...], norm: str
    ) -> None:
        """Make the branch; `kernel` is E."""
        super().__init__()
        self.grids = grids
        self.tower = Tower(inputs + 2, channels, depth, norm=norm, levels=len(grids))
        self.kernels = nn.Conv2d(channels, kernel, 3, padding=1)
        nn.init.normal_(self.kernels.weight, std=0.01)
        nn.init.zeros_(self.kernels.bias)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the kernels of each level."""
        found = []
        for level, (x, grid) in enumerate(zip(maps, self.grids, strict=True)):
            located = torch.cat([x, coordinates(x)], 1)
            found.append(self.kernels(self.tower(resized(located, (grid, grid)), level)))
        return found


class MaskBranch(nn.Module):
    """P2 … P5 → the mask feature `[B, outputs, h, w]` at P2's stride."""

    def __init__(self, inputs: int, channels: int, outputs: int, norm: str, maps: int = 4) -> None:
        """Make the branch; `maps` counts from P2."""
        super().__init__()
        self.levels: Any = nn.ModuleList()
        for level in range(maps):
            first = inputs + 2 if level == maps - 1 else inputs
            widths = [first, *[channels] * max(level, 1)]
            self.levels.append(
                nn.ModuleList(ConvNorm(a, b, norm=norm) for a, b in itertools.pairwise(widths))
            )
        self.merge = ConvNorm(channels, outputs, 1, norm=norm)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return the feature."""
        last = maps[-1]
        inputs = [*maps[:-1], torch.cat([last, coordinates(last)], 1)]
        total = None
        for level, x in enumerate(inputs):
            for layer in self.levels[level]:
                x = layer(x)
                if level:
                    x = resized(x, (2 * x.shape[2], 2 * x.shape[3]))
            total = x if total is None else total + x
        return self.merge(total)


class SOLOv2(OneStage):
    """The eager model; in eval mode it detects as the paper says."""

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int = 81,
        *,
        channels: int = 512,
        depth: int = 4,
        mask_channels: int = 128,
        kernel: int = 256,
        norm: str = "group",
        settings: GridSettings | None = None,
        max_detections: int = 100,
    ) -> None:
        """Make the heads.

        Args:
            backbone: with five maps, P2 to P6, of `backbone.out_channels`.
            num_classes: background included.
            channels: of the category and kernel towers.
            depth: of the towers.
            mask_channels: of the mask branch.
            kernel: of the mask feature, E.
            norm: "group", "batch" or "none", in the heads.
            settings: None is the paper's.
            max_detections: in a picture.
        """
        super().__init__(backbone, num_classes, max_detections)
        self.settings = settings or GridSettings()
        inputs, grids = int(backbone.out_channels), self.settings.grids  # type: ignore[arg-type]
        self.category_branch = CategoryBranch(inputs, channels, depth, num_classes - 1, grids, norm)
        self.kernel_branch = KernelBranch(inputs, channels, depth, kernel, grids, norm)
        self.mask_branch = MaskBranch(inputs, mask_channels, kernel, norm)

    def heads(self, maps: Mapping[str, Tensor]) -> SOLOv2Heads:
        """Return categories, kernels and the mask feature."""
        levels = grid_maps(maps)
        return SOLOv2Heads(
            self.category_branch(levels),
            self.kernel_branch(levels),
            self.mask_branch(list(maps.values())[:4]),
        )

    def detect(
        self, heads: SOLOv2Heads, index: int, canvas: tuple[int, int], size: tuple[int, int]
    ) -> Detections:
        """Return what was found in one picture."""
        settings = self.settings
        scores = grid_reference.cell_scores([level[index] for level in heads.categories])
        kernels = torch.cat([level[index].flatten(1).T for level in heads.kernels])
        strides = torch.cat(
            [torch.full((g * g,), s) for g, s in zip(settings.grids, settings.strides, strict=True)]
        )
        cells, classes = torch.nonzero(scores > settings.score_threshold, as_tuple=True)
        # The 1x1 convolution by each cell's kernel; conv2d itself refuses to have no kernels.
        masks = torch.einsum("ne,ehw->nhw", kernels[cells], heads.feature[index]).sigmoid()
        return grid_reference.choose(
            masks, scores[cells, classes], classes + 1, strides[cells], settings,
            self.max_detections, canvas, size,
        )  # fmt: skip


class SOLOv2Graph(OneStageGraph):
    """The same in static shapes."""

    def __init__(self, model: SOLOv2, spec: InputSpec) -> None:
        """Copy `model`, and note each cell's stride."""
        super().__init__(model, spec)
        settings = model.settings
        counts = [grid * grid for grid in settings.grids]
        least = [float(s) for n, s in zip(counts, settings.strides, strict=True) for _ in range(n)]
        self.register_buffer("least", torch.tensor(least))

    def detect(self, heads: SOLOv2Heads, corner: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels, masks and count."""
        settings, canvas = self.model.settings, (self.spec.height, self.spec.width)
        scores, cells, labels = grid_graph.best_cells(heads.categories, settings.candidates)
        kernels = torch.cat([level.flatten(2) for level in heads.kernels], 2).transpose(1, 2)

        def masks_of(cells: Tensor) -> Tensor:
            logits = torch.matmul(grid_graph.of_each(kernels, cells), heads.feature.flatten(2))
            return torch.sigmoid(logits).reshape(*cells.shape, *heads.feature.shape[2:])

        return grid_graph.choose(
            masks_of, cells, scores, labels, self.get_buffer("least")[cells], settings,
            self.model.max_detections, quarter(canvas), corner,
        )  # fmt: skip
