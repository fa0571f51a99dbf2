"""Time and memory of COCO evaluation: 5,000 pictures with 100 detections each, drawn at random.

    python benchmarks/evaluation.py [--pictures 5000] [--detections 100] [--boundary]

Each picture is 480 x 640 with 7 annotations of 80 categories, about COCO val2017's; 30 % of the
detections lie on an annotation. Results come picture by picture, as `maskrt check` makes them; the
time that drawing and encoding take is left out.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from maskrt.runtime.check import CocoDataset, CocoEvaluator, CocoImage

SIZE = (480, 640)
CLASSES = 80
TRUTHS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--boundary", action="store_true", help="boundary AP and F too")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    stencils = [_ellipse(side) for side in np.exp(rng.uniform(2.3, 6, 200)).astype(int)]
    dataset = _dataset(args.pictures, stencils, rng)
    truth: dict[int, list] = {}
    for entry in dataset.annotations:
        truth.setdefault(entry["image_id"], []).append(entry)
    kinds = ("box", "mask", "boundary") if args.boundary else ("box", "mask")
    seconds = 0.0
    started = time.perf_counter()
    evaluator = CocoEvaluator(dataset, kinds)
    seconds += time.perf_counter() - started
    for image in dataset.images:
        results = _results(truth[image.id], args.detections, stencils, rng)
        started = time.perf_counter()
        evaluator.add(image.id, results)
        seconds += time.perf_counter() - started
    started = time.perf_counter()
    metrics = evaluator.metrics()
    classes = evaluator.class_metrics()
    summary = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    for kind in kinds:
        print(f"{kind:9} AP {metrics[kind]['AP']:.2f} over {len(classes[kind])} categories")
    print(
        f"{args.pictures} pictures, {args.pictures * args.detections} detections: "
        f"{seconds + summary:.1f} s ({summary:.1f} s of it the numbers), "
        f"peak memory {peak:.2f} GiB, on one thread"
    )


def _ellipse(side: int) -> np.ndarray:
    height = min(side, SIZE[0] - 1)
    y, x = np.mgrid[:height, :side]
    return ((y + 0.5) / height * 2 - 1) ** 2 + ((x + 0.5) / side * 2 - 1) ** 2 <= 1


def _dataset(pictures: int, stencils: list, rng: np.random.Generator) -> CocoDataset:
    images = tuple(CocoImage(key, Path(f"{key}.png"), SIZE) for key in range(1, pictures + 1))
    names = {key: f"class {key}" for key in range(1, CLASSES + 1)}
    entries = []
    for image in images:
        classes = rng.choice(CLASSES, 3, replace=False) + 1
        for _ in range(TRUTHS):
            entry = _placed(image.id, int(rng.choice(classes)), stencils, rng)
            entries.append({**entry, "id": len(entries) + 1, "iscrowd": int(rng.uniform() < 0.01)})
    return CocoDataset(Path(tempfile.gettempdir()), images, names, tuple(entries))


def _results(truth: list[dict], count: int, stencils: list, rng: np.random.Generator) -> list[dict]:
    on = int(0.3 * count)
    entries = []
    for number in range(count):
        source = truth[number % len(truth)]
        if number < on:
            x, y, w, h = source["bbox"]
            noise = rng.normal(0, 0.08, 4) * (w, h, w, h)
            box = [v + float(n) for v, n in zip((x, y, w, h), noise, strict=True)]
            entry = {**source, "bbox": box}
        else:
            label = source["category_id"] if number % 3 else int(rng.integers(1, CLASSES + 1))
            entry = _placed(source["image_id"], label, stencils, rng)
        entries.append({**entry, "score": float(rng.uniform(0.05, 1))})
    return entries


def _placed(image_id: int, label: int, stencils: list, rng: np.random.Generator) -> dict:
    inside = stencils[int(rng.integers(len(stencils)))]
    height, width = inside.shape
    y = int(rng.integers(0, SIZE[0] - height + 1))
    x = int(rng.integers(0, SIZE[1] - width + 1))
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[y : y + height, x : x + width] = inside
    rle = coco_mask.encode(mask)
    return {
        "image_id": image_id,
        "category_id": label,
        "bbox": [float(x), float(y), float(width), float(height)],
        "area": float(inside.sum()),
        "segmentation": {"size": list(SIZE), "counts": rle["counts"]},
    }


if __name__ == "__main__":
    main()
