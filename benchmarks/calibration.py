"""What calibration costs: wall time in units of plain inference of the same pictures, and memory.

    python benchmarks/calibration.py [--pictures 32 256] [--peers] [--json FILE]
        [--modelopt PYTHON]

Model: torchvision's maskrcnn_resnet50_fpn at 512 x 512 with random weights, as canonical ONNX. Each
run is a process of its own, so that its peak memory is its own; plain inference runs before and
after each calibration; the mean of the two is the unit. Statistics of all methods come from one
pass, so all of them are one line. `--peers` adds ONNX Runtime's `quantize_static` on the same graph
(its `maskrt` functions inlined), with at most 32 pictures. `--modelopt` adds `quantize` of NVIDIA's
ModelOpt, run by the Python of an environment of its own, since it brings older packages:

    python -m venv build/modelopt && build/modelopt/bin/pip install 'nvidia-modelopt[onnx]'
    python benchmarks/calibration.py --peers --modelopt build/modelopt/bin/python
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import inliner

SIZE = 512


def main() -> None:
    options = _options()
    if options.job:
        print(json.dumps(_measured(JOBS[options.job], options.model, options.pictures[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        _export(model)
        print("| | pictures | wall | of plain inference | peak memory |\n|---|---|---|---|---|")
        rows = [_row("maskrt, all methods", "maskrt", model, count) for count in options.pictures]
        if options.peers:
            rows += [
                _row(f"ONNX Runtime {m}", f"ort-{m}", model, min(32, *options.pictures), peer=True)
                for m in ("minmax", "entropy")
            ]
        if options.modelopt:
            inlined = Path(folder) / "inlined.onnx"
            onnx.save(inliner.inline_local_functions(onnx.load(model)), inlined)
            rows += [
                _row(
                    f"ModelOpt {m}", f"modelopt-{m}", inlined, min(32, *options.pictures),
                    python=options.modelopt, peer=True,
                )
                for m in ("max", "entropy")
            ]  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--modelopt", metavar="PYTHON", help="of an environment with ModelOpt")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _export(path: Path) -> None:
    import torch
    import torchvision

    from maskrt.export import export_model

    torch.manual_seed(0)
    model = torchvision.models.get_model(
        "maskrcnn_resnet50_fpn", weights=None, weights_backbone=None
    )
    onnx.save(export_model(model, input_size=(SIZE, SIZE)).model, path)


def _row(
    name: str, job: str, model: Path, count: int, *, python: str = sys.executable,
    peer: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Measure a job, print its line and return it; a peer may fail, and its words are its line."""
    before = _run("plain", model, count)
    try:
        found = _run(job, model, count, python)
    except RuntimeError as error:
        if not peer:
            raise
        print(f"| {name} | {count} | failed: {error} | | |", flush=True)
        return {"name": name, "pictures": count, "failed": str(error)}
    after = _run("plain", model, count)
    unit = (before["seconds"] + after["seconds"]) / 2
    print(
        f"| {name} | {count} | {found['seconds']:.0f} s | {found['seconds'] / unit:.2f} | "
        f"{found['peak_mb'] / 1000:.2f} GB |",
        flush=True,
    )
    return {
        "name": name,
        "pictures": count,
        "seconds": found["seconds"],
        "plain_seconds": unit,
        "of_plain": found["seconds"] / unit,
        "peak_mb": found["peak_mb"],
        "plain_peak_mb": before["peak_mb"],
    }


def _run(job: str, model: Path, count: int, python: str = sys.executable) -> dict[str, float]:
    command = [python, __file__, "--job", job, "--model", str(model), "--pictures"]
    done = subprocess.run([*command, str(count)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def _measured(job: Callable[[Path, int], None], model: Path, count: int) -> dict[str, float]:
    started = time.perf_counter()
    job(model, count)
    return {"seconds": time.perf_counter() - started, "peak_mb": _peak_mb()}


def _peak_mb() -> float:
    """Return the most memory that this program held.

    Not `ru_maxrss`: Linux carries that over from the parent, which has exported the model.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return (peaks or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] / 1024


def _pictures(count: int) -> Iterator[np.ndarray]:
    """Yield pictures of smooth blobs under grain, `[1, H, W, 3]`; drawn anew by every job."""
    for seed in range(count):
        generator = np.random.default_rng(seed)
        coarse = generator.uniform(0, 235, (1, SIZE // 32, SIZE // 32, 3))
        smooth = coarse.repeat(32, 1).repeat(32, 2)
        yield (smooth + generator.integers(0, 20, smooth.shape)).astype(np.uint8)


def _plain(model: Path, count: int) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    for batch in _pictures(count):
        session.run(None, {"images": batch})


def _maskrt(model: Path, count: int) -> None:
    from maskrt import calib
    from maskrt.core import Precision

    graph = onnx.load(model)
    statistics = calib.collect_statistics(graph, _pictures(count))
    recipe = calib.make_recipe(graph, Precision.INT8, statistics, method="best")
    for method in calib.METHODS:
        recipe.with_method(method)


def _ort(method: str) -> Callable[[Path, int], None]:
    def job(model: Path, count: int) -> None:
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            quantize_static,
        )

        class _Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self.set_range(0, count)

            def __len__(self) -> int:
                return count

            def set_range(self, start_index: int, end_index: int) -> None:
                shown = islice(_pictures(count), start_index, end_index)
                self._left = ({"images": batch} for batch in shown)

            def get_next(self) -> Any:
                return next(self._left, None)

        kind = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy}[method]
        with tempfile.TemporaryDirectory() as folder:
            inlined = Path(folder) / "inlined.onnx"
            onnx.save(inliner.inline_local_functions(onnx.load(model)), inlined)
            quantize_static(
                inlined, Path(folder) / "quantised.onnx", _Reader(), calibrate_method=kind,
                op_types_to_quantize=["Conv", "ConvTranspose", "Gemm", "Add"],
                extra_options={"CalibStridedMinMax": 1},  # else 0.7 GB a picture
            )  # fmt: skip

    return job


def _modelopt(method: str) -> Callable[[Path, int], None]:
    def job(model: Path, count: int) -> None:
        from modelopt.onnx.quantization import quantize

        class _Reader:
            """What ONNX Runtime's calibrator asks for, one picture at a time."""

            def __init__(self) -> None:
                self.rewind()

            def rewind(self) -> None:
                self._left = ({"images": batch} for batch in _pictures(count))

            def get_next(self) -> Any:
                return next(self._left, None)

            def get_first(self) -> Any:
                return {"images": next(_pictures(1))}

        with tempfile.TemporaryDirectory() as folder:
            quantize(
                str(model), calibration_data_reader=_Reader(), calibration_method=method,
                calibration_eps=["cpu"], output_path=str(Path(folder) / "quantised.onnx"),
                high_precision_dtype="fp32",
            )  # fmt: skip

    return job


JOBS: dict[str, Callable[[Path, int], None]] = {
    "plain": _plain,
    "maskrt": _maskrt,
    "ort-minmax": _ort("minmax"),
    "ort-entropy": _ort("entropy"),
    "modelopt-max": _modelopt("max"),
    "modelopt-entropy": _modelopt("entropy"),
}


if __name__ == "__main__":
    main()
