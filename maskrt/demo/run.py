"""The demo run: the whole job once, on a trained model and on pictures that it has never seen.

PyTorch weights → canonical ONNX → FP32, FP16, INT8 engines for the CPU, and TensorRT-RTX engines
→ held-out scenes → AP of each against the annotations → one table, and pictures with masks
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checking.references import evaluate_session, pytorch_session
from ..core import LAYER_PRECISIONS, Bundle, Precision, Progress, Target, require, silent
from ..core.bundle import check_destination
from ..pipeline import build, load
from ..pipeline import compile as compile_model
from ..runtime.check import CocoDataset, Evaluation
from . import weights_path
from .scenes import CLASS_NAMES, scene, write_coco

__all__ = ["Row", "run_demo"]

MODEL = "maskrt:maskrcnn_scenes"
SIZE = (320, 320)
_CALIBRATION_SCENES = 64
_DRAWN = 6


@dataclass(frozen=True)
class Row:
    """One line of the demo's table.

    Attributes:
        name: the model or engine.
        layers: what its heavy layers really compute in.
        bytes: size of the engine's file, or of the PyTorch parameters.
        metrics: `{"box": …, "mask": …}`, or None where this machine cannot run it.
        latency_ms: median from pixels to pasted masks, or None likewise.
        build_seconds: what building the engine took, or None for PyTorch.
        note: what a reader of the row has to know, one sentence or empty.
    """

    name: str
    layers: dict[str, int]
    bytes: int
    metrics: dict[str, Any] | None
    latency_ms: float | None
    build_seconds: float | None
    note: str = ""


def run_demo(
    output: Path | str, *, pictures: int = 200, progress: Progress = silent
) -> tuple[Bundle, list[Row], list[Path]]:
    """Compile the demo model to `output`, and measure it on `pictures` held-out scenes.

    Returns:
        The bundle, the table's rows, and the drawn pictures (in `<output's folder>/demo-pictures`).
    """
    weights = weights_path()  # both before scenes are painted
    check_destination(Path(output))
    folder = Path(output).parent
    annotations = _write_scenes(folder / "demo-scenes", pictures, progress)
    dataset = CocoDataset.load(annotations.parent / "images", annotations)
    bundle = _compile(output, weights, progress)
    with pytorch_session(bundle, weights) as session:
        found = evaluate_session(session, dataset, "run PyTorch fp32", progress)
    parameters = _parameter_bytes(weights)
    rows = [_row("PyTorch FP32", {"layers": None, "bytes": parameters}, found)]
    drawn: list[Path] = []
    for target in ("cpu", "rtx"):
        for precision in LAYER_PRECISIONS:
            info = bundle.read_json(
                f"{bundle.engine_folder(Target.parse(target), precision)}/engine.json"
            )
            result = None
            if target == "cpu":
                with load(bundle, target, precision=precision) as session:
                    stage = f"run {target} {precision}"
                    result = evaluate_session(session, dataset, stage, progress, _DRAWN)
                if precision is bundle.manifest.precision:
                    drawn = _save(folder / "demo-pictures", result.pictures)
            rows.append(_row(_name(target, precision), info, result))
    return bundle, rows, drawn


def _write_scenes(folder: Path, count: int, progress: Progress) -> Path:
    progress("draw held-out scenes", 0, count)
    return write_coco(
        folder,
        count,
        split="val",
        size=SIZE,
        progress=lambda done, total: progress("draw held-out scenes", done, total),
    )


def _compile(output: Path | str, weights: Path, progress: Progress) -> Bundle:
    bundle = compile_model(
        MODEL,
        output,
        weights=weights,
        input_size=SIZE,
        calibration=[
            scene(index, split="train", size=SIZE).image for index in range(_CALIBRATION_SCENES)
        ],
        precision=Precision.INT8,
        targets=["cpu", "rtx"],
        class_names=("background", *CLASS_NAMES),
        progress=progress,
    )
    for target in ("cpu", "rtx"):
        for precision in (Precision.FP32, Precision.FP16):
            build(bundle, target, precision=precision, progress=progress)
    return bundle


def _row(name: str, info: dict[str, Any], found: Evaluation | None) -> Row:
    return Row(
        name,
        info["layers"] or {},
        info["bytes"],
        None if found is None else found.metrics,
        None if found is None else found.latency_ms["p50"],
        info.get("build_seconds"),
        info.get("note", ""),
    )


def _name(target: str, precision: Precision) -> str:
    canonical = "canonical " if target == "cpu" and precision is Precision.FP32 else ""
    return f"{target} {canonical}{precision.value.upper()}"


def _parameter_bytes(weights: Path) -> int:
    """Return the bytes of the parameters in FP32, whatever the file stores them in."""
    tensors = require("safetensors", "read the demo weights")
    with tensors.safe_open(str(weights), "numpy") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    return 4 * sum(math.prod(shape) for shape in shapes)


def _save(folder: Path, pictures: Sequence[tuple[str, Any]]) -> list[Path]:
    pillow = require("PIL.Image", "write pictures")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, image in pictures:
        file = folder / f"{Path(name).stem}.png"
        pillow.fromarray(image).save(file)
        files.append(file)
    return files
