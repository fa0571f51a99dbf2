"""The training losses agree with torchvision and with plain loops, and a step lowers each."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

FOLDER = Path(__file__).parents[2] / "examples" / "scenes"
SIDE = 128


@pytest.fixture(scope="module")
def losses() -> Iterator[Any]:
    """Import modules of the examples by name."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))


@pytest.fixture
def picture() -> dict[str, Any]:
    """Two overlapping rectangles, the smaller in front, and a far speck."""
    masks = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
    masks[1, 40:72, 40:72] = 1
    masks[0, 16:112, 24:104] = 1 - masks[1, 16:112, 24:104]
    masks[2, 2:12, 114:126] = 1
    boxes = torch.tensor([[24, 16, 104, 112], [40, 40, 72, 72], [114, 2, 126, 12]]).float()
    return {"boxes": boxes, "labels": torch.tensor([2, 5, 1]), "masks": masks}


def test_yolact_matches_anchors_as_torchvision_does(losses: Any) -> None:
    from torchvision.models.detection._utils import Matcher
    from torchvision.ops import box_iou

    module = losses("yolact_loss")
    torch.manual_seed(0)
    for objects in (1, 2, 7):
        corner, sides = torch.rand(objects, 2) * 80, 10 + torch.rand(objects, 2) * 40
        boxes = torch.cat([corner, corner + sides], 1)
        anchors = torch.cat([torch.rand(400, 2) * 100, 8 + torch.rand(400, 2) * 40], 1)
        corners = torch.cat(
            [anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], 1
        )
        found = module.match(anchors, boxes)
        expected = Matcher(0.5, 0.4)(box_iou(boxes, corners))
        best = box_iou(corners, boxes).argmax(0)  # also the best anchor of each object is its own
        expected[best] = torch.arange(objects)
        assert torch.equal(found, expected)


def test_yolact_codes_are_those_that_the_model_decodes(losses: Any) -> None:
    from maskrt.export.families.yolact import decode

    torch.manual_seed(1)
    corner = torch.rand(50, 2) * 100
    boxes = torch.cat([corner, corner + 5 + torch.rand(50, 2) * 60], 1)
    anchors = torch.cat([torch.rand(50, 2) * 100, 8 + torch.rand(50, 2) * 40], 1)
    back = decode(losses("yolact_loss").encode(boxes, anchors), anchors)
    assert torch.allclose(back, boxes, atol=1e-3)


def test_yolact_mask_error_is_that_of_the_pixels_inside_the_box(losses: Any) -> None:
    torch.manual_seed(2)
    logits, truth = torch.randn(2, 32, 32), (torch.rand(2, 32, 32) > 0.5).float()
    boxes = torch.tensor([[5.0, 9.0, 41.0, 80.0], [0.0, 0.0, 128.0, 128.0]])
    found = losses("yolact_loss").mask_loss(logits, truth, boxes)
    entropy = -(truth * logits.sigmoid().log() + (1 - truth) * (1 - logits.sigmoid()).log())
    assert found[0].item() == pytest.approx(entropy[0, 2:20, 1:11].mean().item(), rel=1e-4)
    assert found[1].item() == pytest.approx(entropy[1].mean().item(), rel=1e-4)


def test_condinst_gives_a_location_to_the_smallest_object_around_it(
    losses: Any, picture: dict[str, Any]
) -> None:
    from maskrt.export.zoo.condinst import condinst_scenes

    module, model = losses("condinst_loss"), condinst_scenes()
    shapes = [(SIDE // s, SIDE // s) for s in model.strides]
    where = module.places(model, shapes)
    found = module.targets(where, picture["boxes"], picture["masks"])
    sizes = [0.0, *model.sizes_of_interest]
    expected = []
    for level, stride in enumerate(model.strides):
        for row in range(SIDE // stride):
            for column in range(SIDE // stride):
                point = (column * stride + stride // 2, row * stride + stride // 2)
                expected.append(_owner(point, stride, sizes[level], sizes[level + 1], picture))
    assert found.owners.tolist() == expected
    assert {0, 1, 2} <= set(expected)


def _owner(
    point: tuple[int, int], stride: int, least: float, most: float, picture: dict[str, Any]
) -> int:
    """The rule in words: inside the box, 1.5 strides around the centre of mass, of this size."""
    best, owner = float("inf"), -1
    for number, (box, mask) in enumerate(zip(picture["boxes"], picture["masks"], strict=True)):
        x1, y1, x2, y2 = box.tolist()
        rows, columns = torch.nonzero(mask, as_tuple=True)
        x, y = columns.float().mean().item(), rows.float().mean().item()
        inside = x1 < point[0] < x2 and y1 < point[1] < y2
        near = abs(point[0] - x) < 1.5 * stride and abs(point[1] - y) < 1.5 * stride
        longest = max(point[0] - x1, point[1] - y1, x2 - point[0], y2 - point[1])
        area = (x2 - x1) * (y2 - y1)
        if inside and near and least <= longest <= most and area < best:
            best, owner = area, number
    return owner


def test_solo_cells_are_in_the_centre_region_of_levels_that_hold_the_size(
    losses: Any, picture: dict[str, Any]
) -> None:
    from maskrt.export.zoo.solo import SCENES

    found = losses("grid_losses").positives(picture, SCENES)
    for number, (box, mask) in enumerate(zip(picture["boxes"], picture["masks"], strict=True)):
        width, height = (box[2:] - box[:2]).tolist()
        size = (width * height) ** 0.5
        rows, columns = torch.nonzero(mask, as_tuple=True)
        down, across = rows.float().mean().item() + 0.5, columns.float().mean().item() + 0.5
        for owners, grid, (least, most) in zip(
            found.owners, SCENES.grids, SCENES.scale_ranges, strict=True
        ):
            centre = int(down / SIDE * grid), int(across / SIDE * grid)
            cells = torch.nonzero(owners == number).tolist()
            if least <= size <= most:
                assert list(centre) in cells
            else:
                assert not cells
            assert all(abs(i - centre[0]) <= 1 and abs(j - centre[1]) <= 1 for i, j in cells)


def test_focal_and_dice_are_the_papers(losses: Any) -> None:
    module = losses("grid_losses")
    torch.manual_seed(3)
    p, q = torch.rand(4, 50), (torch.rand(4, 50) > 0.5).float()
    for row in range(4):
        shared = sum(float(a * b) for a, b in zip(p[row], q[row], strict=True))
        squares = sum(float(a * a + b * b) for a, b in zip(p[row], q[row], strict=True))
        expected = 1 - 2 * shared / squares
        assert module.dice(p, q)[row].item() == pytest.approx(expected, abs=1e-3)
    logits, owners = torch.randn(6, 3), torch.tensor([0, -1, -2, 1, -1, 0])
    labels = torch.tensor([2, 1])
    expected = 0.0
    for logit, owner in zip(logits, owners.tolist(), strict=True):
        truth = labels[owner].item() if owner >= 0 else 0
        certain = logit.softmax(0)[truth].item()
        share = 0.25 if owner >= 0 else 0.75
        if owner != -2:
            expected -= share * (1 - certain) ** 2 * float(torch.tensor(certain).log())
    found = losses("yolact_loss").focal_loss(logits, owners, labels).item()
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("family", ["condinst", "solo", "solov2", "yolact"])
def test_a_few_steps_lower_the_loss_and_an_empty_picture_is_no_trouble(
    losses: Any, family: str, picture: dict[str, Any]
) -> None:
    module = losses("train_family")
    recipe = module.FAMILIES[family]
    torch.manual_seed(4)
    model = recipe.build().train()
    model.backbone.body.eval()
    empty = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, SIDE, SIDE, dtype=torch.uint8),
    }
    pictures = torch.rand(2, 3, SIDE, SIDE)
    pictures[0] += picture["masks"].sum(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    totals = []
    for _ in range(6):
        torch.manual_seed(5)  # the same locations are drawn for the masks
        total = sum(recipe.losses(model, model(pictures), [picture, empty]).values())
        optimizer.zero_grad()
        total.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.95 * totals[0], totals
