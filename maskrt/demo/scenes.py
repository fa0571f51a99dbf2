"""Deterministic scenes: COCO-format instance segmentation that needs no download.

A scene is a crop of a real photograph shipped inside scikit-image, with two to seven textured
objects of six kinds on it. Objects are lit by one light, cast soft shadows, are turned by any
angle, span 8 to 300 pixels (about log-uniform, a little more large than small) and occlude one
another. Colours are random, so only shape and texture tell the kinds apart.

Contract:
    * `scene` is a pure function: the same arguments give the same bits in any order, in any
      process, on the same versions of NumPy and OpenCV.
    * The splits share neither photographs nor seeds.
    * Masks hold visible pixels only and never overlap. A placement that would leave an earlier
      object less than `MIN_VISIBLE` of its area is drawn again, so whatever can be seen is
      annotated.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..core import UsageError, require
from ._paint import Object, Patch, background, cover, expose, light_direction, paint
from ._shapes import CLASS_NAMES, outline

__all__ = ["CLASS_NAMES", "MIN_VISIBLE", "PHOTOGRAPHS", "Scene", "scene", "write_coco"]

PHOTOGRAPHS: dict[str, tuple[str, ...]] = {
    "train": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "chelsea.png",
        "grass.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "retina.jpg",
    ),
    "val": ("coffee.png", "gravel.png", "rocket.jpg"),
}
"""File names in scikit-image's data folder, by split."""

MIN_VISIBLE = 0.35
"""Least share of an object's area that stays visible."""

_MIN_PIXELS = 14
_DIAMETER_PX = (8.0, 300.0)
_ATTEMPTS = 12
_SHORT_SIDES = (224, 256, 288, 320)
_SPLIT_SEED = {"train": 1, "val": 2}


@dataclass(frozen=True)
class Scene:
    """One annotated picture.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        boxes_xyxy: float32 [N, 4], pixel edges of the visible part.
        labels: int64 [N], 1..6, an index into `CLASS_NAMES` plus one.
        masks: bool [N, H, W], visible pixels.
    """

    image: np.ndarray
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


def scene(index: int, *, split: str = "train", size: tuple[int, int] | None = (320, 320)) -> Scene:
    """Draw one scene.

    Args:
        index: number of the scene within its split, >= 0.
        split: "train" or "val".
        size: (height, width) in pixels; None draws an aspect ratio per scene, long side 320.

    Returns:
        The picture and its annotation; an object that finds no place is left out.

    Raises:
        UsageError: unknown split, negative index or a side below 64 pixels.
    """
    if split not in PHOTOGRAPHS or index < 0:
        raise UsageError(
            f"scene needs a split of {sorted(PHOTOGRAPHS)} and an index >= 0, "
            f"not split={split!r}, index={index}."
        )
    rng = np.random.default_rng((_SPLIT_SEED[split], index))
    height, width = size if size is not None else _random_size(rng)
    if min(height, width) < 64:
        raise UsageError(f"scene needs sides of at least 64 pixels, not size={size}.")
    image = background(rng, PHOTOGRAPHS[split], height, width)
    light = light_direction(rng)
    masks: list[np.ndarray] = []
    labels: list[int] = []
    least: list[float] = []
    for radius_px in _radii(rng, min(height, width)):
        placed = _place(rng, radius_px, masks, least, (height, width))
        if placed is None:
            continue
        item, patch, mask = placed
        paint(image, item, patch, light, rng)
        for earlier in masks:
            earlier &= ~mask
        masks.append(mask)
        least.append(max(_MIN_PIXELS, MIN_VISIBLE * mask.sum()))
        labels.append(item.kind + 1)
    return _annotate(expose(image, rng), masks, labels)


def write_coco(
    folder: str | Path,
    count: int,
    *,
    split: str = "val",
    size: tuple[int, int] | None = (320, 320),
    first: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write scenes as a COCO instance-segmentation data set of PNG pictures.

    Args:
        folder: created if missing; receives `images/` and `annotations.json`.
        count: number of scenes.
        split: "train" or "val".
        size: (height, width) in pixels, or None as in `scene`.
        first: index of the first scene; image ids are scene indices plus one.
        progress: called with (scenes written, count) after each scene.

    Returns:
        Path of `annotations.json`.
    """
    cv2 = require("cv2", "write scenes")
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    categories = [{"id": i + 1, "name": n} for i, n in enumerate(CLASS_NAMES)]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for done, index in enumerate(range(first, first + count), start=1):
        drawn = scene(index, split=split, size=size)
        name = f"{split}_{index:06d}.png"
        bgr = np.ascontiguousarray(drawn.image[..., ::-1])
        cv2.imwrite(str(folder / "images" / name), bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        height, width = drawn.image.shape[:2]
        images.append({"id": index + 1, "file_name": name, "height": height, "width": width})
        annotations += _coco_annotations(drawn, index + 1, len(annotations) + 1)
        if progress is not None:
            progress(done, count)
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def _coco_annotations(drawn: Scene, image_id: int, first_id: int) -> list[dict[str, Any]]:
    coco_mask = require("pycocotools.mask", "write masks as COCO RLE")
    rows = []
    for offset, (box, label) in enumerate(zip(drawn.boxes_xyxy, drawn.labels, strict=True)):
        rle = coco_mask.encode(np.asfortranarray(drawn.masks[offset].astype(np.uint8)))
        x1, y1, x2, y2 = (float(edge) for edge in box)
        rows.append(
            {
                "id": first_id + offset,
                "image_id": image_id,
                "category_id": int(label),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": int(drawn.masks[offset].sum()),
                "iscrowd": 0,
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
            }
        )
    return rows


def _random_size(rng: np.random.Generator) -> tuple[int, int]:
    short = int(rng.choice(_SHORT_SIDES))
    return (short, 320) if rng.random() < 0.7 else (320, short)


def _radii(rng: np.random.Generator, short_side: int) -> np.ndarray:
    """Radii in pixels of the objects to draw, far to near: mostly large behind small."""
    low, high = np.log(_DIAMETER_PX[0]), np.log(min(_DIAMETER_PX[1], 0.94 * short_side))
    share = rng.random(rng.integers(2, 8)) ** 0.8
    diameters = np.exp(low + (high - low) * share)
    order = np.argsort(-(np.log(diameters) + rng.normal(0.0, 0.5, len(diameters))))
    return diameters[order] / 2.0


def _place(
    rng: np.random.Generator,
    radius_px: float,
    masks: list[np.ndarray],
    least: list[float],
    size: tuple[int, int],
) -> tuple[Object, Patch, np.ndarray] | None:
    """Find a place where the object and all earlier ones stay visible enough; None if none."""
    kind = int(rng.integers(len(CLASS_NAMES)))
    area = radius_px**2 * _unit_area(kind)
    for _ in range(_ATTEMPTS):
        center = rng.uniform((0.0, 0.0), (size[1], size[0]))
        item = Object(kind, radius_px, rng.uniform(0.0, 2.0 * np.pi), center)
        patch = cover(item, size)
        inside = patch.alpha >= 0.5
        if inside.sum() < max(_MIN_PIXELS, 0.6 * area):
            continue
        view = (patch.rows, patch.columns)
        hidden = [int((earlier[view] & inside).sum()) for earlier in masks]
        rest = [int(m.sum()) - n for m, n in zip(masks, hidden, strict=True)]
        if all(n >= limit for n, limit in zip(rest, least, strict=True)):
            mask = np.zeros(size, bool)
            mask[view] = inside
            return item, patch, mask
    return None


@cache
def _unit_area(kind: int) -> float:
    """Area of an object of radius 1: its first contour less the holes."""
    areas = [
        abs(float(np.sum(c[:, 0] * np.roll(c[:, 1], -1) - c[:, 1] * np.roll(c[:, 0], -1))))
        for c in outline(kind)
    ]
    return 0.5 * (areas[0] - sum(areas[1:]))


def _annotate(image: np.ndarray, masks: list[np.ndarray], labels: list[int]) -> Scene:
    boxes = np.zeros((len(masks), 4), np.float32)
    for row, mask in zip(boxes, masks, strict=True):
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        row[:] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
    stacked = np.stack(masks) if masks else np.zeros((0, *image.shape[:2]), bool)
    return Scene(image, boxes, np.array(labels, np.int64), stacked)
