"""CPU latency of Mask R-CNN: torchvision's own ONNX export, canonical FP32, FP16 and INT8.

All of them run in ONNX Runtime in one process, alternating, so a busy machine hurts them alike.
Each is timed from a picture in memory to masks pasted at full size: torchvision's export pastes
inside the graph, ours outside. Weights are random (speed does not depend on them), and the score
threshold is lowered so that every model pastes its full 100 masks; the counts are printed.

    python benchmarks/cpu_latency.py [--size 512] [--rounds 7] [--json FILE]
"""

import argparse
import json
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import torchvision

import maskrt
from maskrt.runtime import letterbox

SCORE_THRESHOLD = 0.005
CALIBRATION_PICTURES = 8


def photos(size: int) -> list[np.ndarray]:
    """Crops of real photographs, uint8 `[size, size, 3]`."""
    import skimage.data

    spec = maskrt.InputSpec(size, size)
    shown = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    crops = [p[y : y + 256, x : x + 256] for p in shown for y, x in ((0, 0), (40, 120), (44, 190))]
    return [letterbox(np.ascontiguousarray(c), spec)[0] for c in crops][:CALIBRATION_PICTURES]


def build_model(size: int) -> torch.nn.Module:
    """maskrcnn_resnet50_fpn with random weights."""
    torch.manual_seed(0)
    return torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=91, min_size=size, max_size=size,
        box_score_thresh=SCORE_THRESHOLD,
    ).eval()  # fmt: skip


def torchvision_export(model: torch.nn.Module, size: int, folder: Path) -> Callable[..., int]:
    """Return a function that runs torchvision's own export on one picture."""
    file = folder / "torchvision.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, ([torch.rand(3, size, size)],), str(file), dynamo=False, opset_version=17,
            input_names=["image"], output_names=["boxes", "labels", "scores", "masks"],
        )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])

    def run(picture: np.ndarray) -> int:
        image = picture.transpose(2, 0, 1).astype(np.float32) / 255
        boxes, _, _, masks = session.run(None, {"image": image})
        _ = masks > 0.5
        return len(boxes)

    return run


def our_engine(bundle: maskrt.Bundle, precision: str) -> Callable[..., int]:
    """Return a function that runs an engine of the bundle on one picture."""
    session = maskrt.load(bundle, "cpu", precision=precision)

    def run(picture: np.ndarray) -> int:
        found = session.predict(picture)
        _ = found.masks
        return len(found)

    return run


def measure(
    runners: dict[str, Callable[..., int]], pictures: list[np.ndarray], rounds: int
) -> dict[str, Any]:
    """Time the runners in turn; medians in milliseconds, and instances found."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    counts: dict[str, int] = {}
    for number in range(-1, rounds):
        picture = pictures[number % len(pictures)]
        for name, run in runners.items():
            started = time.perf_counter()
            counts[name] = run(picture)
            if number >= 0:
                times[name].append((time.perf_counter() - started) * 1e3)
    base = float(np.median(times["torchvision's export"]))
    return {
        name: {
            "median_ms": float(np.median(values)),
            "ratio": float(np.median(values)) / base,
            "instances": counts[name],
        }
        for name, values in times.items()
    }


def main() -> None:
    """Build, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16", "int8"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pictures = photos(options.size)
    model = build_model(options.size)
    with tempfile.TemporaryDirectory() as folder:
        bundle = maskrt.compile(
            model, Path(folder) / "r50.maskrt", input_size=(options.size, options.size),
            calibration=pictures, precision="int8", targets=["cpu"],
        )  # fmt: skip
        for precision in options.precisions:
            if precision != "int8":
                maskrt.build(bundle, "cpu", precision=precision)
        runners = {
            "torchvision's export": torchvision_export(model, options.size, Path(folder)),
            **{f"maskrt {p}": our_engine(bundle, p) for p in options.precisions},
        }
        found = measure(runners, pictures, options.rounds)
    print(f"maskrcnn_resnet50_fpn, {options.size} x {options.size}, {platform.machine()}, "
          f"ONNX Runtime {onnxruntime.__version__}, {options.rounds} rounds")  # fmt: skip
    for name, row in found.items():
        print(
            f"{name:22} {row['median_ms']:8.0f} ms   {row['ratio']:.3f}   "
            f"{row['instances']} instances"
        )
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
