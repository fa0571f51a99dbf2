"""Mask R-CNN R50-FPN on a CPU, maskrt beside its peers, in one run.

    python benchmarks/cpu_peers.py [--size 512] [--threads 2] [--rounds 7] [--json FILE]
                                   [--bundle BUNDLE] [--skip WORD ...]

torchvision's own ONNX export in ONNX Runtime, maskrt's engines, OpenVINO on the export and on
maskrt's graph in FP32 and with Q/DQ, PyTorch eager and torch.compile. OpenVINO is optional
(pip install openvino); what is not installed, or fails, is a row that says why.

Each is given a letterboxed picture and hands out boxes and masks over boxes; masks are pasted by
none but torchvision's export and PyTorch, which cannot be told not to: they are timed as they are,
and again by maskrt's session with masks pasted. All take turns, so a busy machine hurts them alike.
A row has the median and the least wall time, and the least processor time of all threads. On a busy
machine the wall time is that of its other programs, and processor time holds what threads spin
while they wait for each other: give --threads 1 there, or wait for a quiet hour; the load is
printed. Weights are random: speed does not depend on them. Memory is the growth of the process
while the model is loaded and run for the first time.
"""

import argparse
import gc
import json
import os
import platform
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from cpu_latency import build_model, photos

import maskrt
from maskrt.core.bundle import MODEL
from maskrt.runtime import open_session
from maskrt.runtime.backends.cpu import CpuBackend
from maskrt.runtime.cpu_name import cpu_name
from maskrt.runtime.integer_kernels import measured_gain

Run = Callable[[np.ndarray], int]


@dataclass
class Row:
    """One way to run the model.

    Attributes:
        name: for the table.
        run: picture → instances found; None if it cannot be had.
        size: bytes of its files.
        memory: bytes that the process grew by.
        why: if it cannot be had.
        wall: seconds.
        processor: seconds of all threads.
        found: instances in the last picture.
    """

    name: str
    run: Run | None = None
    size: int = 0
    memory: int = 0
    why: str = ""
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    found: int = 0


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--skip", nargs="*", default=[], help="rows, by a part of their names")
    parser.add_argument(
        "--bundle", type=Path, help="kept between runs; compiled if it is not there"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pictures = photos(options.size)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, make in _ways(folder, pictures, options):
            if not any(word in title for word in options.skip):
                rows.append(_opened(title, make, pictures[0]))
                print(f"opened {title}{': ' + rows[-1].why if rows[-1].why else ''}", flush=True)
        for number in range(options.rounds):
            measure(rows, pictures[number % len(pictures)])
            if options.json is not None:
                found = {"about": _about(options, number + 1), "rows": [_numbers(r) for r in rows]}
                options.json.write_text(json.dumps(found, indent=2) + "\n")
    print("\n".join(_table(_about(options, options.rounds), [_numbers(row) for row in rows])))


def _about(options: argparse.Namespace, rounds: int) -> dict[str, Any]:
    return {
        "cpu": cpu_name(), "threads": options.threads, "size": options.size, "rounds": rounds,
        "load": round(os.getloadavg()[0], 1), "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__, "torch": torch.__version__,
        "openvino": _version("openvino"), "flags": _flags(),
        "int8_gain": [round(gain, 2) for gain in measured_gain()],
    }  # fmt: skip


def _ways(
    folder: Path, pictures: list[np.ndarray], options: argparse.Namespace
) -> list[tuple[str, Callable[[], tuple[Run, int]]]]:
    """Return name, and what opens it and says how large its files are."""
    size, threads = options.size, options.threads
    model = build_model(size)
    export = folder / "torchvision.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, ([torch.rand(3, size, size)],), str(export), dynamo=False, opset_version=17,
            input_names=["image"], output_names=["boxes", "labels", "scores", "masks"],
        )  # fmt: skip
    place = options.bundle or folder / "r50.maskrt"
    if not place.exists():
        made = maskrt.compile(
            model, place, input_size=(size, size), calibration=pictures, precision="int8",
            targets=["cpu"],
        )  # fmt: skip
        maskrt.build(made, "cpu", precision="fp32")
    bundle = maskrt.Bundle.open(place)
    engines = {"FP32": "engines/cpu@fp32/engine.onnx", "INT8": "engines/cpu/engine.onnx"}
    inlined = {}
    for precision in engines:
        inlined[precision] = folder / f"inlined_{precision}.onnx"
        inlined[precision].write_bytes(_inlined(bundle, precision))
    return [
        ("torchvision's export, ONNX Runtime", lambda: _runtime(export, threads)),
        *(
            (f"maskrt {precision}", lambda file=file: _engine(bundle.read(file), threads))
            for precision, file in engines.items()
        ),
        *(
            (f"maskrt {p}, masks pasted", lambda p=p: _session(bundle, p.lower(), threads))
            for p in engines
        ),
        ("OpenVINO, torchvision's export", lambda: _openvino(export, threads, foreign=True)),
        *(
            (f"OpenVINO, maskrt's graph {precision}", lambda file=file: _openvino(file, threads))
            for precision, file in inlined.items()
        ),
        ("PyTorch eager", lambda: _torch(model)),
        ("torch.compile", lambda: _torch(torch.compile(model))),
    ]


def _inlined(bundle: maskrt.Bundle, precision: str) -> bytes:
    """Return the graph without local functions: canonical, or explicit Q/DQ as for TensorRT."""
    from onnx import inliner

    from maskrt import calib
    from maskrt.core.bundle import RECIPE

    model = onnx.load_model_from_string(bundle.read(MODEL))
    if precision == "INT8":
        recipe = calib.Recipe.from_json(bundle.read_json(RECIPE))
        model = calib.render(model, recipe, calib.Style.TENSORRT)
    return inliner.inline_local_functions(model).SerializeToString()


def _runtime(file: Path, threads: int) -> tuple[Run, int]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])

    def run(picture: np.ndarray) -> int:
        return len(session.run(None, {"image": _normalised(picture)})[0])

    return run, file.stat().st_size


def _engine(engine: bytes, threads: int) -> tuple[Run, int]:
    backend = CpuBackend(engine, threads=threads)
    return lambda picture: int(backend.run(picture[None])["count"][0]), len(engine)


def _session(bundle: maskrt.Bundle, precision: str, threads: int) -> tuple[Run, int]:
    session = open_session(bundle, "cpu", precision, threads=threads)

    def run(picture: np.ndarray) -> int:
        found = session.predict(picture)
        return len(found.masks) if found.masks is not None else 0

    return run, 0


def _openvino(file: Path, threads: int, *, foreign: bool = False) -> tuple[Run, int]:
    import openvino

    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(file), "CPU", config)
    request = compiled.create_infer_request()
    names = [output.get_any_name() for output in compiled.outputs]

    def run(picture: np.ndarray) -> int:
        given = _normalised(picture) if foreign else picture[None]
        request.infer([given])
        result = {
            n: request.get_tensor(o).data for n, o in zip(names, compiled.outputs, strict=True)
        }
        return len(result["boxes"]) if foreign else int(result["count"][0])

    return run, file.stat().st_size


def _torch(model: torch.nn.Module) -> tuple[Run, int]:
    size = sum(p.numel() * p.element_size() for p in model.state_dict().values())

    def run(picture: np.ndarray) -> int:
        with torch.inference_mode():
            return len(model([torch.from_numpy(_normalised(picture))])[0]["boxes"])

    return run, size


def _normalised(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / 255


def _opened(name: str, make: Callable[[], tuple[Run, int]], picture: np.ndarray) -> Row:
    gc.collect()
    before = _resident()
    try:
        run, size = make()
        found = run(picture)
    except Exception as error:  # whatever a peer raises is its row's text
        return Row(name, why=f"{type(error).__name__}: {' '.join(str(error).split())[-200:]}")
    return Row(name, run, size, max(0, _resident() - before), found=found)


def measure(rows: list[Row], picture: np.ndarray) -> None:
    """Time each row once."""
    for row in rows:
        if row.run is not None:
            started, used = time.perf_counter(), time.process_time()
            row.found = row.run(picture)
            row.processor.append(time.process_time() - used)
            row.wall.append(time.perf_counter() - started)


def _resident() -> int:
    """Return the bytes of memory that this process has now."""
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(statm.read_text().split()[1]) * resource.getpagesize()


def _numbers(row: Row) -> dict[str, Any]:
    if row.run is None:
        return {"name": row.name, "why": row.why}
    return {
        "name": row.name,
        "median_ms": round(float(np.median(row.wall)) * 1e3, 1),
        "least_ms": round(min(row.wall) * 1e3, 1),
        "least_processor_ms": round(min(row.processor) * 1e3, 1),
        "memory_mb": round(row.memory / 1e6),
        "size_mb": round(row.size / 1e6, 1),
        "instances": row.found,
    }


def _table(about: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"{about['cpu']} ({', '.join(about['flags'])}), {about['threads']} threads, load "
        f"{about['load']:.1f}, ONNX Runtime {about['onnxruntime']}, OpenVINO {about['openvino']}, "
        f"PyTorch {about['torch']}", "",
        "| | median ms | least ms | least processor ms | of maskrt FP32 | memory MB | size MB |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    base = next(r["least_processor_ms"] for r in rows if r["name"] == "maskrt FP32")
    for row in rows:
        if "why" in row:
            lines.append(f"| {row['name']} | {row['why']} | | | | | |")
            continue
        numbers = [row[k] for k in ("median_ms", "least_ms", "least_processor_ms")]
        cells = [f"{n:.0f}" for n in numbers] + [f"{row['least_processor_ms'] / base:.2f}"]
        cells += [f"{row['memory_mb']}", f"{row['size_mb']:.0f}" if row["size_mb"] else "-"]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return lines


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _flags() -> list[str]:
    """Return which of the instructions that matter this CPU has."""
    cpuinfo = Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split()) if cpuinfo.is_file() else set()
    wanted = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
    return [flag for flag in wanted if flag in words] or ["none known"]


if __name__ == "__main__":
    main()
