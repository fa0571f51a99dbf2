"""Pasting 100 masks into a picture of 1080 x 1920: ours against torchvision's paste_masks_in_image.

    python benchmarks/paste.py [--rounds 5]

Both end in bool masks at the threshold 0.5 and alternate in one process. Fails where ours is not at
least five times as fast, or where more than one pixel in 100,000 differs.
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from maskrt.runtime import paste_masks

SIZE, COUNT = (1080, 1920), 100
LEAST, DIFFERENT = 5.0, 1e-5


def draw() -> tuple[np.ndarray, np.ndarray]:
    """Return smooth probabilities [100, 28, 28] and boxes of 2 to 60 % of the picture's sides."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:28, :28]
    cy, cx = generator.uniform(8, 20, (2, COUNT, 1, 1))
    radius = generator.uniform(3, 20, (COUNT, 1, 1))
    masks = 1 / (1 + np.exp(np.hypot(y - cy, x - cx) - radius))
    extent = np.array(SIZE[::-1])
    centre = generator.uniform(0, 1, (COUNT, 2)) * extent
    half = generator.uniform(0.01, 0.3, (COUNT, 2)) * extent
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    return masks.astype(np.float32), np.clip(boxes, 0, [*extent, *extent]).astype(np.float32)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    masks, boxes = draw()
    tensors = torch.from_numpy(masks)[:, None], torch.from_numpy(boxes)
    pasters: dict[str, Callable[[], np.ndarray]] = {
        "torchvision": lambda: (paste_masks_in_image(*tensors, SIZE)[:, 0] > 0.5).numpy(),
        "maskrt": lambda: paste_masks(masks, boxes, SIZE),
    }
    times: dict[str, list[float]] = {name: [] for name in pasters}
    results = {}
    for number in range(-1, rounds):
        for name, run in pasters.items():
            started = time.perf_counter()
            results[name] = run()
            if number >= 0:
                times[name].append((time.perf_counter() - started) * 1e3)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:12} {median:8.1f} ms")
    ratio = medians["torchvision"] / medians["maskrt"]
    differ = results["torchvision"] != results["maskrt"]
    print(f"{'ratio':12} {ratio:8.1f}")
    print(f"pixels that differ: {int(differ.sum())}")
    if ratio < LEAST or differ.mean() > DIFFERENT:
        sys.exit(f"failed: the ratio has to be {LEAST:g}, and the masks the same")


if __name__ == "__main__":
    main()
