"""SOLO: each cell has a mask channel of its own, or, decoupled, a row's and a column's.

    category branch     as in `grid.py`
    mask branch         each map with coordinates → a tower → twice its size → a feature
    vanilla             a 1x1 convolution to S² channels, one for each cell
    decoupled           two towers, with x and with y alone; 3x3 convolutions to S channels each;
                        the mask of cell (i, j) is the product of column j's and row i's

All masks are brought to stride 4. In the graph, vanilla SOLO computes the masks of the K best cells
alone: their rows of the 1x1 convolution's weights are gathered, and multiplied with the features of
each level. Decoupled SOLO gathers from the channels of all levels.

Source: Wang et al., SOLO: Segmenting Objects by Locations (2020).
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...core import InputSpec
from . import grid_graph, grid_reference
from .grid import CategoryBranch, GridSettings, grid_maps
from .grid_checkpoints import SOLO_LAYOUTS
from .layers import Tower, coordinates, prior_bias, resized
from .one_stage import Detections, OneStage, OneStageGraph, quarter

__all__ = ["SOLO", "SOLOGraph", "SOLOHeads"]


class SOLOHeads(NamedTuple):
    """What the heads say of a batch.

    Attributes:
        categories: logits `[B, classes, S, S]` of each level.
        features: of each level, what its mask layer takes; for decoupled SOLO a pair, x and y.
        size: of masks at stride 4 of the padded input.
    """

    categories: list[Tensor]
    features: list[Any]
    size: tuple[int, int]


class SOLO(OneStage):
    """The eager model; in eval mode it detects as the paper says."""

    layouts = SOLO_LAYOUTS

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int = 81,
        *,
        decoupled: bool = False,
        channels: int = 256,
        depth: int = 7,
        norm: str = "group",
        settings: GridSettings | None = None,
        max_detections: int = 100,
    ) -> None:
        """Make the heads.

        Args:
            backbone: with five maps, P2 to P6, of `backbone.out_channels`.
            num_classes: background included.
            decoupled: the form with a mask channel for each row and column.
            channels: of the towers.
            depth: of the towers.
            norm: "group", "batch" or "none", in the heads.
            settings: None is the paper's.
            max_detections: in a picture.
        """
        super().__init__(backbone, num_classes, max_detections)
        self.settings = settings or GridSettings()
        self.decoupled = decoupled
        inputs, grids = int(backbone.out_channels), self.settings.grids  # type: ignore[arg-type]
        self.category_branch = CategoryBranch(inputs, channels, depth, num_classes - 1, grids, norm)
        extra = 1 if decoupled else 2
        self.mask_towers = nn.ModuleList(
            Tower(inputs + extra, channels, depth, norm=norm, levels=len(grids))
            for _ in range(2 if decoupled else 1)
        )
        kernel = 3 if decoupled else 1
        self.mask_layers: Any = nn.ModuleList(
            nn.ModuleList(
                nn.Conv2d(channels, grid if decoupled else grid * grid, kernel, padding=kernel // 2)
                for grid in grids
            )
            for _ in self.mask_towers
        )
        for layer in self.mask_layers.modules():
            if isinstance(layer, nn.Conv2d):
                prior_bias(layer)

    def heads(self, maps: Mapping[str, Tensor]) -> SOLOHeads:
        """Return categories and the features of the mask layers."""
        levels = grid_maps(maps)
        features = [self._features(x, level) for level, x in enumerate(levels)]
        size = (2 * levels[0].shape[2], 2 * levels[0].shape[3])
        return SOLOHeads(self.category_branch(levels), features, size)

    def _features(self, x: Tensor, level: int) -> list[Tensor]:
        place = coordinates(x)
        parts = (place[:, :1], place[:, 1:]) if self.decoupled else (place,)
        twice = (2 * x.shape[2], 2 * x.shape[3])
        return [
            resized(tower(torch.cat([x, part], 1), level), twice)
            for tower, part in zip(self.mask_towers, parts, strict=True)
        ]

    def level_masks(self, heads: SOLOHeads, level: int) -> list[Tensor]:
        """Return mask logits of every channel of a level: `[B, S² or S, h, w]`, of x and of y."""
        return [
            layers[level](feature)
            for layers, feature in zip(self.mask_layers, heads.features[level], strict=True)
        ]

    def detect(
        self, heads: SOLOHeads, index: int, canvas: tuple[int, int], size: tuple[int, int]
    ) -> Detections:
        """Return what was found in one picture."""
        settings = self.settings
        scores = grid_reference.cell_scores([level[index] for level in heads.categories])
        masks, found, labels, least = [], [], [], []
        first = 0
        for level, (grid, stride) in enumerate(zip(settings.grids, settings.strides, strict=True)):
            here = scores[first : first + grid * grid]
            first += grid * grid
            cells, classes = torch.nonzero(here > settings.score_threshold, as_tuple=True)
            one = SOLOHeads([], [[f[index : index + 1] for f in x] for x in heads.features], (0, 0))
            maps = [
                resized(logits.sigmoid(), heads.size)[0] for logits in self.level_masks(one, level)
            ]
            rows = torch.div(cells, grid, rounding_mode="floor")
            of_cells = maps[0][cells % grid] * maps[1][rows] if self.decoupled else maps[0][cells]
            masks.append(of_cells)
            found.append(here[cells, classes])
            labels.append(classes + 1)
            least.append(torch.full_like(cells, stride))
        return grid_reference.choose(
            torch.cat(masks), torch.cat(found), torch.cat(labels), torch.cat(least), settings,
            self.max_detections, canvas, size,
        )  # fmt: skip


class SOLOGraph(OneStageGraph):
    """The same in static shapes."""

    def __init__(self, model: SOLO, spec: InputSpec) -> None:
        """Copy `model`, and note each cell's stride, level, row and column."""
        super().__init__(model, spec)
        settings = model.settings
        strides, levels, rows, columns = [], [], [], []
        before = 0
        for level, (grid, stride) in enumerate(zip(settings.grids, settings.strides, strict=True)):
            number = torch.arange(grid * grid)
            strides.append(torch.full((grid * grid,), float(stride)))
            levels.append(torch.full((grid * grid,), level))
            rows.append(before + torch.div(number, grid, rounding_mode="floor"))
            columns.append(before + number % grid)
            before += grid
        self.register_buffer("least", torch.cat(strides))
        self.register_buffer("level", torch.cat(levels))
        self.register_buffer("row", torch.cat(rows))
        self.register_buffer("column", torch.cat(columns))
        if not model.decoupled:
            layers = self.model.mask_layers[0]
            self.register_buffer("weights", torch.cat([x.weight.flatten(1) for x in layers]))
            self.register_buffer("biases", torch.cat([x.bias for x in layers]))

    def detect(self, heads: SOLOHeads, corner: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels, masks and count."""
        settings, canvas = self.model.settings, (self.spec.height, self.spec.width)
        scores, cells, labels = grid_graph.best_cells(heads.categories, settings.candidates)
        masks_of = functools.partial(self._by_weights, heads)
        if self.model.decoupled:
            across, down = (self._channels(heads, axis) for axis in range(2))
            masks_of = functools.partial(self._products, across, down)
        return grid_graph.choose(
            masks_of, cells, scores, labels, self.get_buffer("least")[cells], settings,
            self.model.max_detections, quarter(canvas), corner,
        )  # fmt: skip

    def _by_weights(self, heads: SOLOHeads, cells: Tensor) -> Tensor:
        """Return the cells' masks `[B, K, h, w]`: each level's feature by their own weights."""
        weight, bias = self.get_buffer("weights")[cells], self.get_buffer("biases")[cells]
        level = self.get_buffer("level")[cells]
        total = None
        for number, (feature,) in enumerate(heads.features):
            logits = torch.matmul(weight, feature.flatten(2)) + bias[..., None]
            masks = torch.sigmoid(logits).reshape(*cells.shape, *feature.shape[2:])
            masks = resized(masks, heads.size) * (level == number)[..., None, None]
            total = masks if total is None else total + masks
        assert total is not None  # there is at least one level
        return total

    def _channels(self, heads: SOLOHeads, axis: int) -> Tensor:
        """Return the channels of x (0) or y (1) of all levels, `[B, sum of S, h, w]`."""
        layers = self.model.mask_layers[axis]
        found = [
            resized(torch.sigmoid(layer(feature[axis])), heads.size)
            for layer, feature in zip(layers, heads.features, strict=True)
        ]
        return torch.cat(found, 1)

    def _products(self, across: Tensor, down: Tensor, cells: Tensor) -> Tensor:
        """Return the cells' masks `[B, K, h, w]`: products of a column's and a row's channel."""
        column, row = self.get_buffer("column")[cells], self.get_buffer("row")[cells]
        return grid_graph.of_each(across, column) * grid_graph.of_each(down, row)
