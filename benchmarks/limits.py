"""What the stated limits cost: peak memory and time of each, in a process of its own.

    python benchmarks/limits.py [--only WORD] [--json FILE]

Peak is the most resident memory of the process (VmHWM); seconds are processor time of the step
alone, on one thread, since the machine may be busy. Compiling needs PyTorch, whose own 0.6 GB are
in those peaks. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from maskrt.core import InputSpec, Instances, MaskrtError, Placing, Resampling  # noqa: E402
from maskrt.core.masks import MaskFrame  # noqa: E402

SPEC = InputSpec(640, 640, 1, (114, 114, 114), Placing.CENTRE, Resampling.BILINEAR)
Step = Callable[[], Any]


def found_in(side: int, count: int, frame: MaskFrame = MaskFrame.BOX) -> Instances:
    """Instances over a twentieth to six tenths of the sides of a square picture."""
    from maskrt.runtime.letterbox import placement
    from maskrt.runtime.postprocess import instances_of

    random = np.random.default_rng(0)
    low = random.uniform(0, 0.6, (count, 2))
    high = np.minimum(low + random.uniform(0.05, 0.6, (count, 2)), 1)
    cells = 28 if frame is MaskFrame.BOX else 160
    y, x = np.mgrid[:cells, :cells] + 0.5 - cells / 2
    disc = (np.hypot(y, x) < cells * 0.45).astype(np.float32) * 0.8 + 0.1
    outputs = {
        "boxes": (np.concatenate([low, high], 1) * 640).astype(np.float32)[None],
        "scores": np.linspace(1, 0.6, count, dtype=np.float32)[None],
        "labels": np.ones((1, count), np.int32),
        "masks": np.tile(disc, (1, count, 1, 1)),
        "count": np.array([count]),
    }
    return instances_of(outputs, 0, placement(side, side, SPEC), mask_frame=frame)


def to_coco(side: int, count: int, frame: MaskFrame = MaskFrame.BOX) -> Step:
    """Write the masks as run lengths."""
    found = found_in(side, count, frame)
    return lambda: len(found.to_coco(1))


def draw(side: int, count: int) -> Step:
    """Draw the masks."""
    found, picture = found_in(side, count), np.zeros((side, side, 3), np.uint8)
    return lambda: found.draw(picture).shape


def read(side: int) -> Step:
    """Read a JPEG and letterbox it."""
    from PIL import Image

    from maskrt.runtime import read_image
    from maskrt.runtime.letterbox import letterbox

    folder = tempfile.mkdtemp()
    path = Path(folder) / "large.jpg"
    code = f"from PIL import Image; Image.new('RGB', ({side}, {side}), 7).save({str(path)!r})"
    subprocess.run([sys.executable, "-c", code], check=True)
    Image.preinit()

    def step() -> Any:
        try:
            return letterbox(read_image(path), SPEC)[0].shape
        finally:
            path.unlink()
            path.parent.rmdir()

    return step


def folder_of(count: int) -> Step:
    """Run a stream over a folder of pictures of 96 x 96, and write each frame's results."""
    from maskrt.runtime import NullBackend, Session

    folder = tempfile.TemporaryDirectory()
    from PIL import Image

    Image.fromarray(np.full((96, 96, 3), 9, np.uint8)).save(Path(folder.name) / "0.png")
    for index in range(1, count):
        os.link(Path(folder.name) / "0.png", Path(folder.name) / f"{index}.png")
    shapes = {"boxes": (1, 4, 4), "scores": (1, 4), "labels": (1, 4), "count": (1,)}
    session = Session(NullBackend(shapes), InputSpec(64, 64))

    def step() -> int:
        with folder, session:
            return sum(len(f.result().to_coco(0)) + 1 for f in session.predict_stream(folder.name))

    return step


def annotations(count: int) -> Step:
    """Read annotations of polygons of 20 corners, ten a picture."""
    from maskrt.runtime.check import CocoDataset

    folder = tempfile.TemporaryDirectory()
    ring = [float(v) for v in np.random.default_rng(0).uniform(0, 400, 40).round(2)]
    path = Path(folder.name) / "instances.json"
    entries = [
        {"id": i, "image_id": i // 10 + 1, "category_id": 1, "bbox": [1, 2, 30, 40], "area": 900,
         "iscrowd": 0, "segmentation": [ring]} for i in range(count)
    ]  # fmt: skip
    pictures = [
        {"id": i + 1, "file_name": f"{i}.jpg", "height": 480, "width": 640}
        for i in range(-(-count // 10))
    ]
    categories = [{"id": 1, "name": "a"}]
    path.write_text(
        json.dumps({"images": pictures, "categories": categories, "annotations": entries})
    )
    del entries

    def step() -> int:
        with folder:
            return len(CocoDataset.read(path).annotations)

    return step


def compiled(batch: int = 1, size: int = 128, **model: Any) -> Step:
    """Compile a detector in a process of its own, and predict two full batches here."""
    folder = tempfile.TemporaryDirectory()
    path = str(Path(folder.name) / "limit.maskrt")
    given = json.dumps({"path": path, "batch": batch, "size": size, "model": model})
    subprocess.run([sys.executable, __file__, "--compile", given], check=True)
    import maskrt

    session = maskrt.load(path, "cpu")
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)

    def step() -> list[int]:
        with folder, session:
            counts = [len(session.predict([noise] * batch)) for _ in range(2)]
            return [*counts, len(session.predict(noise))]

    return step


def compile_model(given: dict[str, Any]) -> None:
    """Compile the demo model, or a small one with another number of classes, boxes or weights."""
    import maskrt

    size, chosen = (given["size"], given["size"]), given["model"]
    if not chosen:
        from maskrt.demo import weights_path
        from maskrt.demo.run import MODEL

        maskrt.compile(MODEL, given["path"], weights=weights_path(), input_size=size,
                       batch=given["batch"])  # fmt: skip
        return
    maskrt.compile(small_model(**chosen), given["path"], input_size=size, batch=given["batch"])


def small_model(num_classes: int = 5, detections: int = 30, width: int = 32) -> Any:
    """A Mask R-CNN of three small levels; a box head of `width` has `width` squared weights."""
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

    from tests.export.detectors import CHANNELS, tiny_mask_rcnn

    return tiny_mask_rcnn(
        num_classes=num_classes, box_detections_per_img=detections, box_score_thresh=0.0,
        rpn_pre_nms_top_n_test=max(200, detections), rpn_post_nms_top_n_test=max(150, detections),
        box_head=TwoMLPHead(CHANNELS * 25, width),
        box_predictor=FastRCNNPredictor(width, num_classes),
    ).eval()  # fmt: skip


def large_graph(width: int) -> Step:
    """Compile a model of `4 * width ** 2` bytes of weights."""
    import maskrt

    model, folder = small_model(width=width), tempfile.TemporaryDirectory()

    def step() -> str:
        with folder:
            try:
                maskrt.compile(model, Path(folder.name) / "large.maskrt", input_size=(128, 128))
            except MaskrtError as error:
                return str(error)
            return "compiled"

    return step


CASES: dict[str, Callable[[], Step]] = {
    "8192 x 8192, read and letterboxed": lambda: read(8192),
    "16384 x 16384, read and letterboxed": lambda: read(16384),
    "16385 x 16385, read": lambda: _refused(read(16385)),
    "8192 x 8192, 40 masks over boxes, to_coco": lambda: to_coco(8192, 40),
    "8192 x 8192, 40 masks of a YOLO, to_coco":
        lambda: to_coco(8192, 40, MaskFrame.CANVAS_BOXED),
    "16384 x 16384, 40 masks over boxes, to_coco": lambda: to_coco(16384, 40),
    "8192 x 8192, 40 masks, draw": lambda: draw(8192, 40),
    "1,000 pictures in a folder, a stream": lambda: folder_of(1000),
    "10,000 pictures in a folder, a stream": lambda: folder_of(10_000),
    "1,000 detections on 1024 x 1024, to_coco": lambda: to_coco(1024, 1000),
    "1,000 detections, 128 x 128, predict": lambda: compiled(detections=1000),
    "batch 64 of the demo model, 128 x 128, predict": lambda: compiled(batch=64),
    "5 classes, 128 x 128, predict": lambda: compiled(num_classes=5),
    "300 classes, 128 x 128, predict": lambda: compiled(num_classes=301),
    "100,000 annotations, read": lambda: annotations(100_000),
    "0.6 GB of weights, compile": lambda: large_graph(12_000),
    "2.3 GB of weights, compile": lambda: large_graph(24_000),
}  # fmt: skip


def _refused(step: Step) -> Step:
    def refused() -> str:
        try:
            return str(step())
        except MaskrtError as error:
            return type(error).__name__ + ": " + str(error).split(" ", 1)[1]

    return refused


def peak_mb() -> float:
    """Return the most that this process held."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def measure(name: str) -> dict[str, Any]:
    """Prepare and run one case here."""
    step = CASES[name]()
    before, started = peak_mb(), time.process_time()
    result = step()
    return {
        "case": name, "seconds": time.process_time() - started, "peak_mb": peak_mb(),
        "before_mb": before, "result": str(result),
    }  # fmt: skip


def main() -> None:
    """Run each case in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="Only the cases with this in their name.")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--compile", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.compile:
        compile_model(json.loads(options.compile))
        return
    if options.case:
        print(json.dumps(measure(options.case)))
        return
    rows = []
    for name in (name for name in CASES if options.only in name):
        command = [sys.executable, __file__, "--case", name]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASKRT_CACHE": "off"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            print(f"| {name} | failed | {done.stderr.strip().splitlines()[-1][:200]} |", flush=True)
            continue
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        row = rows[-1]
        cells = (name, f"{row['peak_mb']:.0f} MB", f"{row['seconds']:.2f} s", row["result"][:150])
        print("|", " | ".join(cells), "|", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
