"""What masks of a YOLO cost on a large picture: this project's, and NumPy and OpenCV's plain way.

300 instances, prototypes of 160 x 160, a picture of 4000 x 3000, boxes of a twentieth to six tenths
of its sides. Both assemble logits for the kept instances, resize them to the picture, compare them
with zero and cut them at the box. Plain: all of the picture, mask by mask, as `process_mask` does
it; here: what a session's instances do when COCO's run lengths are asked for, and their crops.

    python benchmarks/mask_cost.py [--rounds 3]
"""

import argparse
import resource
import statistics
import time
from collections.abc import Iterator

import numpy as np

from maskrt.core import InputSpec, Placing, Resampling
from maskrt.core.masks import MaskFrame
from maskrt.runtime.letterbox import placement
from maskrt.runtime.postprocess import instances_of

SIZE, INSTANCES, SIDE, MIXED = (3000, 4000), 300, 160, 32


def drawn() -> dict[str, np.ndarray]:
    """Return coefficients, prototypes and boxes in the picture."""
    random = np.random.default_rng(0)
    height, width = SIZE
    coarse = random.normal(0, 1, (MIXED, SIDE // 8, SIDE // 8))
    low = random.uniform(0, 0.6, (INSTANCES, 2))
    high = np.minimum(low + random.uniform(0.05, 0.6, (INSTANCES, 2)), 1)
    return {
        "coefficients": random.normal(0, 1, (INSTANCES, MIXED)).astype(np.float32),
        "prototypes": coarse.repeat(8, 1).repeat(8, 2).astype(np.float32),
        "boxes": (np.concatenate([low, high], 1) * ([width, height] * 2)).astype(np.float32),
    }


def plain(given: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
    """Yield each mask, uint8 `[H, W]`."""
    import cv2

    height, width = SIZE
    flat = given["prototypes"].reshape(MIXED, -1)
    covered = placement(height, width, _spec()).canvas_size
    top, left = placement(height, width, _spec()).offset
    rows = slice(top * SIDE // 640, (top + covered[0]) * SIDE // 640)
    columns = slice(left * SIDE // 640, (left + covered[1]) * SIDE // 640)
    logits = (given["coefficients"] @ flat).reshape(-1, SIDE, SIDE)
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    for mask, (x1, y1, x2, y2) in zip(logits, given["boxes"], strict=True):
        wide = cv2.resize(mask[rows, columns], (width, height), interpolation=cv2.INTER_LINEAR)
        inside = (wide > 0).astype(np.uint8)
        inside *= (x >= x1) & (x < x2)
        inside *= (y >= y1) & (y < y2)
        yield inside


def _spec() -> InputSpec:
    return InputSpec(640, 640, 1, (114, 114, 114), Placing.CENTRE, Resampling.BILINEAR)


def ours(given: dict[str, np.ndarray]) -> object:
    """Return the instances of what an engine answers."""
    place = placement(*SIZE, _spec())
    top, left = place.offset
    scale = place.canvas_size[1] / SIZE[1]
    flat = given["prototypes"].reshape(MIXED, -1)
    masks = (given["coefficients"] @ flat).reshape(1, -1, SIDE, SIDE) + np.float32(0.5)
    outputs = {
        "boxes": (given["boxes"] * scale + [left, top, left, top])[None],
        "scores": np.linspace(1, 0.3, INSTANCES, dtype=np.float32)[None],
        "labels": np.ones((1, INSTANCES), np.int32),
        "masks": masks,
        "count": np.array([INSTANCES]),
    }
    return instances_of(outputs, 0, place, mask_frame=MaskFrame.CANVAS_BOXED)


def main() -> None:
    """Measure both, alternating, and print medians and the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    given = drawn()
    times: dict[str, list[float]] = {"run lengths": [], "crops": [], "plain": []}
    peak = 0
    for _ in range(rounds):
        started = time.perf_counter()
        ours(given).to_coco(1)  # type: ignore[attr-defined]
        times["run lengths"].append(time.perf_counter() - started)
        peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        started = time.perf_counter()
        areas = [int(crop.inside.sum()) for crop in ours(given).crops]  # type: ignore[attr-defined]
        times["crops"].append(time.perf_counter() - started)
        started = time.perf_counter()
        expected = [int(mask.sum()) for mask in plain(given)]
        times["plain"].append(time.perf_counter() - started)
    base = statistics.median(times["plain"])
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"{name:12} {middle:6.2f} s  {middle / base:.2f} of plain")
    off = [abs(a - b) / max(b, 1) for a, b in zip(areas, expected, strict=True)]
    print(f"peak of run lengths: {peak} MiB; areas differ by {np.median(off):.4f} (median)")


if __name__ == "__main__":
    main()
