"""The inputs of `kernels.py`: the operators that torchvision has, and how their cost grows."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from kernels import Case
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import MultiScaleRoIAlign, batched_nms

__all__ = ["every_case"]

_NMS = {"iou_threshold": 0.5, "score_threshold": 0.05, "class_agnostic": 0}


def every_case(device: str, quick: bool) -> Iterator[Case]:
    """Yield the headline cases, then one axis of growth after another."""
    torch.manual_seed(0)
    if quick:
        yield _pool(device, 5, 7, 1, 64, headline=True)
        yield _nms(device, 60, 1, headline=True)
        yield _paste(device, 3, (40, 60), headline=True)
        return
    for bins in (7, 14):
        yield _pool(device, 1000, bins, 1, 512, headline=True)
    for boxes in (1000, 4000):
        yield _nms(device, boxes, 1, headline=True)
    yield _paste(device, 100, (1080, 1920), headline=True)
    for boxes in (100, 300, 2000, 4000):
        yield _pool(device, boxes, 7, 1, 512)
    for image in (1024, 2048):
        yield _pool(device, 1000, 7, 1, image)
    for batch in (4, 16):
        yield _pool(device, 300, 7, batch, 512)
        yield _nms(device, 1000, batch)
    for boxes in (500, 2000, 8000):
        yield _nms(device, boxes, 1)
    for size in ((512, 512), (2160, 3840)):
        yield _paste(device, 100, size)


def _boxes(device: str, shape: tuple[int, ...], image: int) -> Any:
    """Boxes from 8 pixels to the whole picture, their sides spread evenly in the logarithm."""
    sides = 8 * (image / 8) ** torch.rand(*shape, 2, device=device)
    start = torch.rand(*shape, 2, device=device) * (image - sides)
    return torch.cat([start, start + sides], -1)


def _pool(
    device: str, count: int, bins: int, batch: int, image: int, headline: bool = False
) -> Case:
    dtype = torch.float16 if device == "cuda" else torch.float32
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    levels = [
        torch.randn(batch, 256, int(image * s), int(image * s), device=device, dtype=dtype)
        for s in scales
    ]
    boxes = _boxes(device, (batch, count), image)
    attributes = {
        "output_height": bins, "output_width": bins, "sampling_ratio": 2, "aligned": 0,
        "mode": "avg", "spatial_scales": scales, "canonical_scale": 224.0, "canonical_level": 4,
        "level_epsilon": 1e-6, "min_level": 2,
    }  # fmt: skip
    peer = MultiScaleRoIAlign(["0", "1", "2", "3"], bins, 2)
    maps = OrderedDict((str(i), level) for i, level in enumerate(levels))
    rows = [row.to(dtype) for row in boxes]

    def agree(mine: Any, theirs: Any) -> str:
        """Compare with torchvision in FP32: its own FP16 rounds the coordinates."""
        wide = OrderedDict((k, v.float()) for k, v in maps.items())
        exact = peer(wide, list(boxes), [(image, image)] * batch).reshape(mine.shape)
        worst = (mine.float() - exact).abs().max().item()
        return "" if worst < (4e-3 if dtype == torch.float16 else 1e-4) else f"by {worst:.4f}"

    pixels = sum(level.numel() for level in levels)
    output = batch * count * 256 * bins * bins
    return Case(
        "MultilevelRoIAlign",
        {"boxes": count, "bins": bins, "batch": batch, "image": image},
        lambda: torch.ops.maskrt.multilevel_roialign(boxes, levels, **attributes),
        lambda: peer(maps, rows, [(image, image)] * batch),
        agree,
        (pixels + output) * levels[0].element_size() + boxes.numel() * 4,
        headline,
    )


def _nms(device: str, count: int, batch: int, headline: bool = False) -> Case:
    boxes = _boxes(device, (batch, count), 512)
    scores = torch.rand(batch, count, device=device) * 0.9 + 0.1
    labels = torch.randint(0, 80, (batch, count), device=device, dtype=torch.int32)
    kept = min(count, 1000)
    attributes = {**_NMS, "max_outputs": kept}

    def peer() -> Any:
        return [batched_nms(b, s, n, 0.5) for b, s, n in zip(boxes, scores, labels, strict=True)]

    def agree(mine: Any, theirs: Any) -> str:
        for indices, number, expected in zip(mine[3], mine[4], theirs, strict=True):
            wanted = expected[:kept]
            if int(number) != len(wanted) or not torch.equal(indices[: len(wanted)].long(), wanted):
                return "in what is kept"
        return ""

    moved = boxes.numel() * 4 + scores.numel() * 8 + batch * kept * 28
    return Case(
        "BatchedNMS",
        {"boxes": count, "batch": batch},
        lambda: torch.ops.maskrt.batched_nms(boxes, scores, labels, **attributes),
        peer,
        agree,
        moved,
        headline,
    )


def _paste(device: str, count: int, size: tuple[int, int], headline: bool = False) -> Case:
    height, width = size
    probabilities = torch.rand(1, count, 28, 28, device=device)
    boxes = _boxes(device, (1, count), min(size))
    attributes = {"height": height, "width": width, "threshold": 0.5, "packed": 0}

    def peer() -> Any:
        return paste_masks_in_image(probabilities[0][:, None], boxes[0], size) > 0.5

    def agree(mine: Any, theirs: Any) -> str:
        """A pixel within one step of the threshold may fall on either side."""
        different = (mine[0].bool() != theirs[:, 0]).float().mean().item()
        return "" if different < 1e-5 else f"in {different:.6f} of the pixels"

    return Case(
        "PasteMasks",
        {"masks": count, "height": height, "width": width},
        lambda: torch.ops.maskrt.paste_masks(probabilities, boxes, **attributes),
        peer,
        agree,
        count * height * width + probabilities.numel() * 4 + boxes.numel() * 4,
        headline,
    )
