"""One trained Mask R-CNN on a CPU, by maskrt and by what one would use instead.

    python benchmarks/instead.py [--scenes 24] [--rounds 8] [--threads 1] [--skip WORD ...]
                                 [--json FILE] [--markdown FILE] [--plot FILE.svg]

The demo's weights and held-out scenes, so that accuracy is real. Every way is given the same
picture, uint8, and hands out boxes, labels, scores and masks in the picture's pixels. They take
turns on each picture, so a busy machine hurts them alike; `cpu ms` is the least processor time of
all threads over the rounds, `ms` the median of the wall. Memory is the growth of the process while
the way is opened and first run. Statements are those of its function here, `by_…`, with what it
stands on; what fails is a row that says why.

OpenVINO and NNCF are optional (pip install openvino nncf). Other sizes, and R50-FPN:
`cpu_peers.py`.
"""

import argparse
import ast
import gc
import inspect
import json
import os
import platform
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from cpu_peers import _normalised, _resident
from instead_page import markdown, plot
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import load_file

import maskrt
from maskrt.demo import weights_path
from maskrt.demo.scenes import CLASS_NAMES, scene, write_coco
from maskrt.export.zoo.maskrcnn_scenes import maskrcnn_scenes
from maskrt.runtime.cpu_name import cpu_name

Found = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # boxes, labels, scores, masks
Detect = Callable[[np.ndarray], Found]
SIZE = 320
CALIBRATION = 32
NAMES = ["image"], ["boxes", "labels", "scores", "masks"]


@dataclass
class Given:
    """What each way begins with: the trained model, pictures to calibrate, a folder, threads."""

    model: torch.nn.Module
    pictures: list[np.ndarray]
    folder: Path
    threads: int


@dataclass
class Row:
    name: str
    statements: int
    detect: Detect | None = None
    why: str = ""
    size: int = 0
    memory: int = 0
    seconds: float = 0.0
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    ap: dict[str, float] = field(default_factory=dict)


def by_pytorch(given: Given) -> tuple[Detect, list[Path]]:
    def detect(picture: np.ndarray) -> Found:
        with torch.inference_mode():
            found = given.model([torch.from_numpy(_normalised(picture))])[0]
        boxes, labels, scores, masks = (found[name].numpy() for name in NAMES[1])
        return boxes, labels, scores, masks[:, 0] > 0.5

    return detect, [weights_path()]


def by_torch_compile(given: Given) -> tuple[Detect, list[Path]]:
    compiled = torch.compile(given.model)

    def detect(picture: np.ndarray) -> Found:
        with torch.inference_mode():
            found = compiled([torch.from_numpy(_normalised(picture))])[0]
        boxes, labels, scores, masks = (found[name].numpy() for name in NAMES[1])
        return boxes, labels, scores, masks[:, 0] > 0.5

    return detect, [weights_path()]


def by_torchvision_export(given: Given) -> tuple[Detect, list[Path]]:
    file = given.folder / "torchvision.onnx"
    torch.onnx.export(
        given.model, ([torch.rand(3, SIZE, SIZE)],), str(file), dynamo=False, opset_version=17,
        input_names=NAMES[0], output_names=NAMES[1],
    )  # fmt: skip
    return _in_onnx_runtime(file, given.threads), [file]


def by_onnx_runtime_quantiser(given: Given) -> tuple[Detect, list[Path]]:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = ({"image": _normalised(picture)} for picture in given.pictures)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rows, None)

    exported, prepared, file = (
        given.folder / f"{name}.onnx" for name in ("torchvision", "prepared", "quantised")
    )
    quant_pre_process(str(exported), str(prepared), skip_symbolic_shape=True)
    quantize_static(str(prepared), str(file), Reader(), per_channel=True)
    return _in_onnx_runtime(file, given.threads), [file]


def by_openvino(given: Given) -> tuple[Detect, list[Path]]:
    import openvino

    compiled = openvino.Core().compile_model(str(given.folder / "torchvision.onnx"), "CPU")

    def detect(picture: np.ndarray) -> Found:
        answer = compiled([_normalised(picture)])
        boxes, labels, scores, masks = (np.asarray(answer[name]) for name in NAMES[1])
        return boxes, labels, scores, masks[:, 0] > 0.5

    return detect, [given.folder / "torchvision.onnx"]


def by_nncf(given: Given) -> tuple[Detect, list[Path]]:
    import nncf
    import openvino

    read = openvino.Core().read_model(str(given.folder / "torchvision.onnx"))
    data = nncf.Dataset(given.pictures, _normalised)
    file = given.folder / "nncf.xml"
    openvino.save_model(nncf.quantize(read, data), str(file))
    compiled = openvino.Core().compile_model(str(file), "CPU")

    def detect(picture: np.ndarray) -> Found:
        answer = compiled([_normalised(picture)])
        boxes, labels, scores, masks = (np.asarray(answer[name]) for name in NAMES[1])
        return boxes, labels, scores, masks[:, 0] > 0.5

    return detect, [file, file.with_suffix(".bin")]


def by_maskrt_fp32(given: Given) -> tuple[Detect, list[Path]]:
    bundle = maskrt.compile(given.model, given.folder / "fp32.maskrt", input_size=(SIZE, SIZE))
    return _in_maskrt(bundle, given.threads)


def by_maskrt_int8(given: Given) -> tuple[Detect, list[Path]]:
    bundle = maskrt.compile(
        given.model, given.folder / "int8.maskrt", input_size=(SIZE, SIZE), precision="int8",
        calibration=given.pictures,
    )  # fmt: skip
    return _in_maskrt(bundle, given.threads)


WAYS: dict[str, Callable[[Given], tuple[Detect, list[Path]]]] = {
    "PyTorch eager": by_pytorch,
    "torch.compile": by_torch_compile,
    "torchvision's export, ONNX Runtime": by_torchvision_export,
    "the same, ONNX Runtime's quantiser": by_onnx_runtime_quantiser,
    "the same export, OpenVINO": by_openvino,
    "the same export, NNCF and OpenVINO": by_nncf,
    "maskrt FP32": by_maskrt_fp32,
    "maskrt INT8": by_maskrt_int8,
}


def _in_onnx_runtime(file: Path, threads: int) -> Detect:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])

    def detect(picture: np.ndarray) -> Found:
        boxes, labels, scores, masks = session.run(NAMES[1], {"image": _normalised(picture)})
        return boxes, labels, scores, masks[:, 0] > 0.5

    return detect


def _in_maskrt(bundle: maskrt.Bundle, threads: int) -> tuple[Detect, list[Path]]:
    from maskrt.runtime import open_session

    session = open_session(bundle, "cpu", threads=threads)

    def detect(picture: np.ndarray) -> Found:
        found = session.predict(picture)
        assert found.masks is not None
        return found.boxes, found.labels, found.scores, found.masks

    return detect, [*bundle.path.glob("engines/cpu/engine.onnx")]


def statements(way: Callable[..., Any]) -> int:
    """Return how many statements a way takes, with its `_in_…` and without `def`s and returns."""
    nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(way)))))
    counted = (ast.Assign, ast.Expr, ast.AnnAssign, ast.Import, ast.ImportFrom)
    called = {node.func.id for node in nodes
              if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
    behind = sum(statements(globals()[name]) for name in called if name.startswith("_in_"))
    return sum(isinstance(node, counted) for node in nodes) + behind


def opened(name: str, given: Given, picture: np.ndarray) -> Row:
    """Return a way's row, opened and run once."""
    row = Row(name, statements(WAYS[name]))
    if name.startswith("the same"):  # it begins with that export
        row.statements += statements(by_torchvision_export)
    gc.collect()
    before, started = _resident(), time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row.detect, files = WAYS[name](given)
            row.detect(picture)
    except Exception as error:  # a peer may fail in any way, and its row says how
        row.detect, row.why = None, f"{type(error).__name__}: {' '.join(str(error).split())[-160:]}"
        return row
    row.size = sum(file.stat().st_size for file in files)
    row.memory, row.seconds = max(0, _resident() - before), time.perf_counter() - started
    return row


def measure(rows: list[Row], pictures: list[np.ndarray], rounds: int) -> None:
    """Time the ways, one after another on each picture; the order turns with every round."""
    for number in range(rounds):
        picture = pictures[number % len(pictures)]
        turn = number % len(rows)
        for row in rows[turn:] + rows[:turn]:
            assert row.detect is not None
            wall, processor = time.perf_counter(), time.process_time()
            row.detect(picture)
            row.wall.append(time.perf_counter() - wall)
            row.processor.append(time.process_time() - processor)


def judge(row: Row, annotations: Path) -> None:
    """Measure a way's COCO AP."""
    from contextlib import redirect_stdout
    from io import StringIO

    from PIL import Image

    assert row.detect is not None
    with redirect_stdout(StringIO()):
        truth = COCO(str(annotations))
        results: list[dict[str, Any]] = []
        for image in truth.dataset["images"]:
            file = annotations.parent / "images" / image["file_name"]
            for box, label, score, mask in zip(
                *row.detect(np.array(Image.open(file).convert("RGB"))), strict=True
            ):
                x0, y0, x1, y1 = (float(value) for value in box)
                rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
                results.append(
                    {"image_id": image["id"], "category_id": int(label), "score": float(score),
                     "bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": rle}
                )  # fmt: skip
        for kind, name in (("bbox", "box"), ("segm", "mask")):
            row.ap[name] = 0.0
            if results:
                found = COCOeval(truth, truth.loadRes(results), kind)
                found.evaluate()
                found.accumulate()
                found.summarize()
                row.ap[name] = 100 * float(found.stats[0])


def numbers(row: Row) -> dict[str, Any]:
    """Return a row as JSON."""
    shown: dict[str, Any] = {"name": row.name, "statements": row.statements}
    if row.detect is None:
        return {**shown, "why": row.why}
    return {
        **shown,
        "box_ap": round(row.ap["box"], 1),
        "mask_ap": round(row.ap["mask"], 1),
        "processor_ms": round(min(row.processor) * 1e3, 1),
        "wall_ms": round(float(np.median(row.wall)) * 1e3, 1),
        "size_mb": round(row.size / 1e6, 1),
        "memory_mb": round(row.memory / 1e6),
        "set_up_s": round(row.seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--skip", nargs="*", default=[], help="ways with this word in their name")
    for name in ("json", "markdown", "plot"):
        parser.add_argument(f"--{name}", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = maskrcnn_scenes()
    network.load_state_dict(load_file(weights_path()))
    pictures = [scene(n, split="train").image for n in range(CALIBRATION)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        annotations = write_coco(folder / "val", options.scenes, split="val")
        given = Given(network.eval(), pictures, folder, options.threads)
        wanted = [way for way in WAYS if not any(word in way for word in options.skip)]
        rows = []
        for way in wanted:
            rows.append(opened(way, given, pictures[0]))
            print(way, rows[-1].why or f"is open after {rows[-1].seconds:.0f} s", flush=True)
        open_ones = [row for row in rows if row.detect is not None]
        measure(open_ones, pictures, options.rounds)
        for row in open_ones:
            judge(row, annotations)
    about = {
        "scenes": options.scenes, "rounds": options.rounds, "threads": options.threads,
        "cpu": cpu_name(), "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__, "onnxruntime": onnxruntime.__version__,
        "classes": len(CLASS_NAMES),
    }  # fmt: skip
    table = [numbers(row) for row in rows]
    print(markdown(about, table))
    if options.json:
        options.json.write_text(json.dumps({"about": about, "rows": table}, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(about, table))
    if options.plot:
        options.plot.write_text(plot(table))


if __name__ == "__main__":
    main()
