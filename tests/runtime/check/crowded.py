"""A made-up COCO set with everything in it: crowds, polygons, both RLEs, equal scores."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

CATEGORIES = (1, 3, 4)


def crowded_set(pictures: int, seed: int = 0, side: int = 130) -> tuple[dict, list[dict]]:
    """Return annotations (COCO JSON) and results that are partly right."""
    rng = np.random.default_rng(seed)
    images, annotations, results = [], [], []
    for number in range(pictures):
        key = 900 - 7 * number  # descending ids: COCO ranks by ascending id
        height, width = side, side + int(rng.integers(0, 30))
        images.append({"id": key, "file_name": f"{key}.png", "height": height, "width": width})
        for _ in range(int(rng.integers(0, 9))):
            shape = _ellipse(rng, height, width)
            entry = _annotation(key, shape, rng)
            annotations.append({**entry, "id": len(annotations) + 1})
            for _ in range(int(rng.integers(0, 4))):
                results.append(_result(key, shape, entry["category_id"], rng, height, width))
        for _ in range(int(rng.integers(0, 6))):
            shape = _ellipse(rng, height, width)
            results.append(_result(key, shape, int(rng.choice(CATEGORIES)), rng, height, width))
    categories = [{"id": key, "name": f"c{key}"} for key in (*CATEGORIES, 9)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def _ellipse(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    ry, rx = np.exp(rng.uniform(np.log(4), np.log(60), 2))
    cy, cx = rng.uniform(0, height), rng.uniform(0, width)
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1


def _box(mask: np.ndarray) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return [0.0, 0.0, 1.0, 1.0]
    size = (columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    return [float(v) for v in (columns[0], rows[0], *size)]


def _encoded(mask: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(v) for v in rle["size"]], "counts": rle["counts"].decode()}


def _runs(mask: np.ndarray) -> dict[str, Any]:
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    edges = np.flatnonzero(np.diff(flat.astype(np.int8)))
    ends = np.concatenate([[0], edges, [mask.size]])
    return {"size": list(mask.shape), "counts": [int(v) for v in np.diff(ends)]}


def _annotation(key: int, shape: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    if not shape.any():
        shape[:3, :3] = True
    x, y, w, h = box = _box(shape)
    kind = rng.integers(0, 3)
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h + 0.5]]
    return {
        "image_id": key,
        "category_id": int(rng.choice(CATEGORIES)),
        "bbox": box,
        "area": float(shape.sum()) if kind else w * h,
        "iscrowd": int(rng.uniform() < 0.15),
        "segmentation": (polygon, _encoded(shape), _runs(shape))[kind],
    }


def _result(
    key: int, shape: np.ndarray, label: int, rng: np.random.Generator, height: int, width: int
) -> dict[str, Any]:
    moved = np.roll(shape, rng.integers(-3, 4, 2), axis=(0, 1))
    box = [value + float(rng.normal(0, 1.5)) for value in _box(moved)]
    return {
        "image_id": key,
        "category_id": label,
        "bbox": [*box[:2], max(box[2], 1.0), max(box[3], 1.0)],
        "score": float(rng.integers(1, 12)) / 12,  # many equal scores
        "segmentation": _encoded(moved),
    }
