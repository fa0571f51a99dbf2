"""Boxes of masks: the graph's against the reference's, and both against the upsampled mask."""

import inspect
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from maskrt.export.families import grid_graph, grid_reference  # noqa: E402
from maskrt.export.families.grid import MASK_THRESHOLD  # noqa: E402
from maskrt.runtime.canvas_masks import paste_canvas_masks  # noqa: E402

pytestmark = pytest.mark.torch

_SIZE = (126, 158)  # the last row and column of elements reach over the picture's rim


def _blobs(count: int, seed: int) -> np.ndarray:
    """Soft discs of all sizes; some reach over the rim."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :40]
    masks = np.empty((count, 32, 40), np.float32)
    for mask in masks:
        centre = generator.uniform(0, 32), generator.uniform(0, 40)
        radius = np.exp(generator.uniform(np.log(1.5), np.log(30)))
        distance = np.hypot(y - centre[0], (x - centre[1]) * generator.uniform(0.5, 2))
        mask[:] = 1 / (1 + np.exp((distance - radius) / generator.uniform(0.2, 1.5)))
    return masks


@pytest.mark.parametrize("seed", range(3))
def test_graph_and_reference_agree(seed: int) -> None:
    masks = torch.from_numpy(_blobs(40, seed))
    graph = grid_graph.boxes_of(masks[None], 0.5, _corner(_SIZE))[0]
    plain = torch.tensor([grid_reference.box_of(mask, 0.5, _SIZE) for mask in masks])
    assert torch.allclose(graph, plain, atol=1e-3)


@pytest.mark.parametrize("size", [(126, 97), (61, 158), (128, 160), (3, 5)])
def test_a_box_is_of_the_part_in_the_picture(size: tuple[int, int]) -> None:
    """Against the mask cut to the elements that the picture has; zero if nothing is left."""
    masks = torch.from_numpy(_blobs(60, 7))
    graph = grid_graph.boxes_of(masks[None], 0.5, _corner(size))[0]
    rows, columns = -(-size[0] // 4), -(-size[1] // 4)
    plain = [grid_reference.box_of(mask[:rows, :columns], 0.5, size) for mask in masks]
    assert torch.allclose(graph, torch.tensor(plain), atol=1e-3)
    empty = ~(masks[:, :rows, :columns] > 0.5).any(2).any(1)
    assert (graph[empty] == 0).all()
    assert empty.any() or size == (128, 160)


def _corner(size: tuple[int, int]) -> Any:
    height, width = size
    return torch.tensor([[[width, height, width, height]]], dtype=torch.float32)


@pytest.mark.parametrize("seed", range(3))
def test_a_box_is_where_the_upsampled_mask_ends(seed: int) -> None:
    """The runtime's masks: bilinear, four times as large, cut to the picture."""
    masks = torch.from_numpy(_blobs(40, seed + 10))
    up = torch.nn.functional.interpolate(masks[None], scale_factor=4, mode="bilinear")[0]
    up = up[:, : _SIZE[0], : _SIZE[1]] > 0.5
    boxes = grid_graph.boxes_of(masks[None], 0.5, _corner(_SIZE))[0]
    for mask, box in zip(up, boxes, strict=True):
        rows, columns = torch.nonzero(mask, as_tuple=True)
        ends = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array(ends) - box.numpy()).max() <= 1.5


def test_a_mask_ends_where_the_runtime_ends_it() -> None:
    assert inspect.signature(paste_canvas_masks).parameters["threshold"].default == MASK_THRESHOLD


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.6])
def test_greedy_nms_of_the_graph_is_the_loop(threshold: float) -> None:
    generator = torch.Generator().manual_seed(int(threshold * 100))
    inside = torch.from_numpy(_blobs(90, 5)) > 0.5
    labels = torch.randint(1, 3, (90,), generator=generator)
    scores = torch.rand(90, generator=generator).sort(descending=True).values
    kept = grid_reference._mask_nms(inside, labels, threshold)
    iou = grid_reference._overlaps(inside)
    shuffled = torch.randperm(90, generator=generator)
    found = grid_graph._greedy(
        iou[shuffled][:, shuffled][None], scores[shuffled][None], labels[shuffled][None], threshold
    )[0]
    assert 5 < len(kept) < 90
    assert sorted(shuffled[found].tolist()) == sorted(kept.tolist())


def test_greedy_nms_settles_a_chain_as_long_as_all_candidates() -> None:
    """Each suppresses the next: every other one stays. The other picture has no overlap."""
    number = 100
    iou = torch.zeros(2, number, number)
    iou[0, torch.arange(number - 1), torch.arange(1, number)] = 0.9
    iou = torch.maximum(iou, iou.transpose(1, 2))
    scores = torch.linspace(1.0, 0.1, number).expand(2, -1)
    kept = grid_graph._greedy(iou, scores, torch.ones(2, number, dtype=torch.int64), 0.5)
    assert kept[0].tolist() == [index % 2 == 0 for index in range(number)]
    assert kept[1].all()
