"""How large the page of a check is: 200 photographs of 12 megapixels, 80 classes.

    python benchmarks/page_size.py [OUT.html]

The pictures are made to be hard on JPEG (noise as strong at every scale, with edges), with 40
instances each, of which a quarter is missed or invented; so the page is about as large as pages
get. Prints the pictures that are in it, and bytes of the page and of its parts.
"""

import sys
import time
from pathlib import Path

import numpy as np

from maskrt.checking.worst import Worst
from maskrt.core import Instances, Precision
from maskrt.runtime.check import Agreement, CocoDataset, CocoImage, Report, render_html

PICTURES, CLASSES, SIZE, INSTANCES = 200, 80, (3000, 4000), 40
NAMES = ["background", *(f"class {number}" for number in range(1, CLASSES + 1))]


def photograph(rng: np.random.Generator) -> np.ndarray:
    """Return noise whose detail is as strong at every scale, uint8 `[H, W, 3]`."""
    picture = np.zeros((*SIZE, 3), np.float32)
    for step in (1000, 500, 250, 125, 50, 25, 10, 5):
        coarse = rng.normal(0, 14, (SIZE[0] // step, SIZE[1] // step, 3)).astype(np.float32)
        picture += coarse.repeat(step, 0).repeat(step, 1)
    return (128 + picture).clip(0, 255).astype(np.uint8)


def instances(rng: np.random.Generator, boxes: np.ndarray, labels: np.ndarray) -> Instances:
    """Return discs in the boxes."""
    masks = []
    for x0, y0, x1, y1 in boxes:
        plane = np.zeros(SIZE, bool)
        y, x = np.mgrid[int(y0) : int(y1), int(x0) : int(x1)]
        rough = 1 + 0.1 * np.sin(9 * np.arctan2(y - (y0 + y1) / 2, x - (x0 + x1) / 2))
        radius = np.hypot((x - (x0 + x1) / 2) / (x1 - x0), (y - (y0 + y1) / 2) / (y1 - y0))
        plane[int(y0) : int(y1), int(x0) : int(x1)] = radius < 0.45 * rough
        masks.append(plane)
    scores = np.sort(rng.uniform(0.5, 1, len(boxes)).astype(np.float32))[::-1].copy()
    return Instances(boxes, scores, labels, SIZE, NAMES, masks_source=np.array(masks))


def gallery() -> tuple[Worst, Agreement]:
    """Return the worst of all pictures; a few distinct ones stand for them."""
    rng = np.random.default_rng(0)
    entries = tuple(
        CocoImage(number, Path(f"picture{number:06}.jpg"), SIZE) for number in range(PICTURES)
    )
    categories = dict(enumerate(NAMES[1:], 1))
    corners = rng.uniform((0, 0), (SIZE[1] - 700, SIZE[0] - 700), (INSTANCES, 2))
    sides = rng.uniform(100, 700, (INSTANCES, 2))
    boxes = np.concatenate([corners, corners + sides], 1).astype(np.float32)
    labels = rng.integers(1, CLASSES + 1, INSTANCES)
    annotations = tuple(
        {
            "image_id": entry.id, "category_id": int(label), "iscrowd": 0, "segmentation": None,
            "bbox": [float(v) for v in (*box[:2], *(box[2:] - box[:2]))],
        }
        for entry in entries
        for box, label in zip(boxes, labels, strict=True)
    )  # fmt: skip
    worst = Worst(CocoDataset(Path("val.json"), entries, categories, annotations))
    agreement = Agreement()
    quarter = INSTANCES // 4
    expected = instances(rng, boxes[quarter:], labels[quarter:])
    found = instances(rng, boxes[:-quarter], labels[:-quarter])
    pixels = [photograph(rng) for _ in range(4)]
    compared = agreement.add(expected, found)
    for entry in entries:
        here = compared._replace(missed=compared.missed + entry.id)  # each worse than the last
        worst.add(entry, lambda at=entry.id: pixels[at % 4], expected, found, here)
    return worst, agreement


def report(agreement: Agreement) -> Report:
    """Return a report with curves, numbers and a confusion matrix of every class."""
    rng = np.random.default_rng(1)
    numbers = dict.fromkeys(("AP", "AP50", "AP75", "APS", "APM", "APL"), 50.0)
    curves = {}
    for name in NAMES[1:]:
        falling = [np.sort(rng.uniform(0, 1, 101))[::-1].round(5).tolist() for _ in range(3)]
        curves[name] = {
            "precision": dict(zip(("50", "75", "mean"), falling, strict=True)),
            "f1": rng.uniform(0, 1, 101).round(5).tolist(),
            "best": {"score": 0.5, "precision": 0.9, "recall": 0.8, "f1": 0.85},
        }
    classes = {"mask": dict.fromkeys(NAMES[1:], numbers)}
    matrix = {
        "labels": NAMES[1:], "counts": rng.integers(0, 9, (81, 81)).tolist(), "score": 0.5,
    }  # fmt: skip
    metrics = {"box": numbers, "mask": numbers}
    return Report(
        "cpu", Precision.INT8, PICTURES, metrics, reference=metrics, reference_name="PyTorch FP32",
        budget=1.0, classes=classes, reference_classes=classes, curves={"mask": curves},
        reference_curves={"mask": curves}, confusion=matrix, reference_confusion=matrix,
        agreement=agreement.summary(NAMES),
    )  # fmt: skip


def main() -> None:
    """Make the page, and print how large it is."""
    started = time.perf_counter()
    worst, agreement = gallery()
    page = render_html(report(agreement), worst.triples())
    size = len(page.encode("utf-8"))
    print(f"{PICTURES} pictures of {SIZE[1]} x {SIZE[0]}, {CLASSES} classes")
    print(f"{page.count('class=' + chr(34) + 'triple')} pictures in the page")
    for key in ("curves", "confusion", "pictures"):
        part = page.split(f'<section id="{key}"')[1].split("</section>")[0]
        print(f"{key:10} {len(part.encode('utf-8')) / 1e6:.2f} MB")
    print(f"page       {size / 1e6:.2f} MB, in {time.perf_counter() - started:.0f} s")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page, encoding="utf-8")
    if size >= 5e6:
        sys.exit("the page is 5 MB or larger.")


if __name__ == "__main__":
    main()
