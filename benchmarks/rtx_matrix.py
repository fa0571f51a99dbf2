"""Five graphs x FP32, FP16, INT8: each built by TensorRT-RTX on the CPU, in one table.

    python benchmarks/rtx_matrix.py [--graph NAME ...] [--target rtx] [--precision int8 ...]
                                    [--output benchmarks/results]

For each build: seconds (all, and without rendering the recipe), bytes, the precisions read back
from the engine, and the peak memory of the process that built it, which has to stay under 4 GB. By
the model of `maskrt/precision/payoff.py`, no INT8 engine may be slower than FP16's (exit status 1
otherwise).
BF16 and FP8 are built for a target that has them, such as rtx-89. Writes `rtx_matrix.md` and
`rtx_matrix.json`. torchvision's models have random weights (nothing is downloaded), and all are
calibrated on a few drawn scenes.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import maskrt
from maskrt.demo import weights_path
from maskrt.demo.scenes import scene
from maskrt.pipeline import export_bundle

PEAK_LIMIT = 4e9  # bytes
SCENES = 4
ALL = [p for p in maskrt.Precision if p is not maskrt.Precision.MIXED]
PRECISIONS = (maskrt.Precision.FP32, maskrt.Precision.FP16, maskrt.Precision.INT8)
PACKAGES = ("tensorrt-rtx", "onnx", "onnxruntime", "torch", "torchvision")


@dataclass(frozen=True)
class Graph:
    """One model at one input shape."""

    model: str
    height: int
    width: int
    batch: int = 1
    trained: bool = False


GRAPHS = {
    "demo Mask R-CNN": Graph("maskrt:maskrcnn_scenes", 320, 320, trained=True),
    "maskrcnn_resnet50_fpn": Graph("torchvision:maskrcnn_resnet50_fpn", 512, 512),
    "fasterrcnn_resnet50_fpn_v2": Graph("torchvision:fasterrcnn_resnet50_fpn_v2", 512, 512),
    "demo Mask R-CNN, batch 4": Graph("maskrt:maskrcnn_scenes", 320, 320, 4, True),
    "demo Mask R-CNN, 480 x 640": Graph("maskrt:maskrcnn_scenes", 480, 640, 1, True),
}


def main() -> None:
    """Build the matrix, print it, write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graph", action="append", choices=GRAPHS, help="default: all")
    parser.add_argument("--target", default="rtx")
    parser.add_argument("--precision", action="append", choices=[p.value for p in ALL])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    rows = []
    for name in options.graph or GRAPHS:
        for row in build_graph(name, options.target, options.precision or PRECISIONS):
            rows.append(row)
            print(markdown_row(row), flush=True)
    result = {"machine": machine(load_before), "rows": rows}
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "rtx_matrix.json").write_text(json.dumps(result, indent=2) + "\n")
    (options.output / "rtx_matrix.md").write_text(markdown(result))
    over = [f"{r['graph']} {r['precision']}" for r in rows if r["peak_bytes"] >= PEAK_LIMIT]
    if over:
        sys.exit(f"over {PEAK_LIMIT / 1e9:.0f} GB: {', '.join(over)}")
    slow = [r["graph"] for r in rows if r["int8_ms"] > r["fp16_ms"]]
    if slow:
        sys.exit(f"INT8 is modelled slower than FP16: {', '.join(slow)}")


def build_graph(name: str, on: str, precisions: Sequence[str]) -> list[dict[str, Any]]:
    """Export and calibrate one graph, and build it at every precision."""
    graph = GRAPHS[name]
    target = maskrt.Target.parse(on)
    size = (graph.height, graph.width)
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_bundle(
            graph.model, Path(folder) / "model.maskrt", input_size=size, batch=graph.batch,
            weights=weights_path() if graph.trained else None,
        )  # fmt: skip
        pictures = [scene(index, size=size).image for index in range(SCENES)]
        bundle = maskrt.calibrate(bundle, pictures, precision="int8")
        rows = []
        for precision in map(maskrt.Precision.parse, precisions):
            maskrt.build(
                bundle, target, precision=precision, options=maskrt.BuildOptions(cache=False)
            )
            info = bundle.read_json(f"{bundle.engine_folder(target, precision)}/engine.json")
            rows.append(row_of(name, graph, info))
        return rows


def int8_share(row: dict[str, Any]) -> float:
    """Return which share of a build's layers really is INT8."""
    return row["layers"]["int8"] / sum(row["layers"].values())


def row_of(name: str, graph: Graph, info: dict[str, Any]) -> dict[str, Any]:
    """Return one build's figures, all from its `engine.json`."""
    return {
        "graph": name,
        "input": [graph.batch, graph.height, graph.width, 3],
        "precision": info["precision"],
        "total_seconds": info["total_seconds"],
        "build_seconds": info["build_seconds"],
        "bytes": info["bytes"],
        "layers": info["layers"],
        "kernels": info["kernels"],
        "peak_bytes": info["peak_memory_bytes"],
        "int8_ms": info.get("payoff", {}).get("int8_ms", 0.0),
        "fp16_ms": info.get("payoff", {}).get("fp16_ms", 0.0),
    }


def machine(load_before: float) -> dict[str, Any]:
    """Return what the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(load_before, 1),
        "load_after": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
    }


def markdown_row(row: dict[str, Any]) -> str:
    """Return one line of the table."""
    layers = " + ".join(f"{count} {kind}" for kind, count in row["layers"].items() if count)
    if row["precision"] == "int8":
        layers += f" ({int8_share(row):.0%} int8)"
    batch, height, width, _ = row["input"]
    return (
        f"| {row['graph']} | {batch} x {height} x {width} | {row['precision']} "
        f"| {row['total_seconds']:.1f} ({row['build_seconds']:.1f}) | {row['bytes'] / 1e6:.1f} "
        f"| {layers} | {row['peak_bytes'] / 1e9:.2f} |"
    )


def markdown(result: dict[str, Any]) -> str:
    """Return the page with the table."""
    here = result["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in here["packages"].items())
    rows = "\n".join(markdown_row(row) for row in result["rows"])
    return f"""# TensorRT-RTX builds without a GPU

`python benchmarks/rtx_matrix.py` on {here["cores"]} cores of {here["cpu"]}, no GPU used.
Python {here["python"]}, {packages}.
Load average {here["load_before"]} before and {here["load_after"]} after: what other programs take
makes the seconds longer, not the other columns.

| graph | input | asked | seconds (without rendering) | MB | layers read back | peak GB |
|---|---|---|---|---|---|---|
{rows}

The peak is that of the process that builds, whose limit is {PEAK_LIMIT / 1e9:.0f} GB.
"""


if __name__ == "__main__":
    main()
