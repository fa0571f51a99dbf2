"""What TensorRT-RTX's programs launch, move and hold, by stage, read from plans without a GPU.

    python benchmarks/rtx_program.py [--model NAME ...] [--precision fp16 ...] [--target rtx]
                                     [--bundles FOLDER] [--before FILE] [--json FILE]
                                     [--markdown FILE]

`maskrcnn_resnet50_fpn` at 512 x 512 (random weights) and the trained demo models at 320 x 320, in
FP32, FP16 and INT8. Of each program: kernels by kind, bytes a frame (each distinct tensor that a
kernel reads or writes once), the same by stage, device memory, seconds of processor time and memory
of the build. The body of a loop counts once, and what launches nothing (signals between streams,
copies of a condition) not at all. These are counts of the compiler's own program, and no times.
`--bundles` keeps the exported models there, and takes those that are there; `--before` is an
earlier `--json`, which the table then holds the new figures against.
"""

import argparse
import json
import resource
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import maskrt
from maskrt import calib
from maskrt.calib.bundled import read_model, read_recipe
from maskrt.core import Bundle, Precision, Target
from maskrt.core.operator_names import operator_of
from maskrt.demo import weights_path
from maskrt.demo.scenes import scene
from maskrt.pipeline import export_bundle
from maskrt.runtime.build.lowered import lower_for
from maskrt.runtime.build.plan_text import Argument, Kernel, Plan, read_plan

SCENES = 4
R50 = "maskrcnn_resnet50_fpn"
MODELS = (
    R50, "maskrcnn_scenes", "condinst_scenes", "solo_scenes", "solov2_scenes", "yolact_scenes",
)  # fmt: skip
PRECISIONS = ("fp32", "fp16", "int8")
NOT_LAUNCHED = ("signal", "control")
HEADS = {"rpn": "RPN", "box": "box head", "mask": "mask head"}


def main() -> None:
    """Build, read, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--precision", nargs="+", default=PRECISIONS)
    parser.add_argument("--target", default="rtx")
    parser.add_argument("--bundles", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    before = json.loads(options.before.read_text())["rows"] if options.before else []
    known = {(row["model"], row["precision"]): row for row in before}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.model:
            bundle = bundle_of(name, options.bundles or Path(folder))
            for precision in options.precision:
                rows.append(row_of(name, bundle, Target.parse(options.target), precision))
                print(line(rows[-1], known.get((name, precision))), flush=True)
                result = {"tensorrt_rtx": version("tensorrt-rtx"), "rows": rows}
                if options.json is not None:
                    options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.markdown is not None:
        options.markdown.write_text(page(rows, known))


def bundle_of(name: str, folder: Path) -> Bundle:
    """Export and calibrate a model, unless it is there."""
    path = folder / f"{name}.maskrt"
    if path.exists():
        return Bundle.open(path)
    side = 512 if name == R50 else 320
    model = f"torchvision:{name}" if name == R50 else f"maskrt:{name}"
    weights = None if name == R50 else weights_path(name)
    bundle = export_bundle(model, path, input_size=(side, side), weights=weights)
    pictures = [scene(index, size=(side, side)).image for index in range(SCENES)]
    return maskrt.calibrate(bundle, pictures, precision="int8")


def row_of(name: str, bundle: Bundle, target: Target, precision: str) -> dict[str, Any]:
    """Build one engine, and count in its program."""
    wanted, before = Precision.parse(precision), processor_seconds()
    anew = maskrt.BuildOptions(cache=False)
    maskrt.build(bundle, target, precision=wanted, options=anew)
    spent, folder = processor_seconds() - before, bundle.engine_folder(target, wanted)
    plan, info = (
        read_plan(bundle.read(f"{folder}/engine.trt")),
        bundle.read_json(f"{folder}/engine.json"),
    )
    if plan is None:
        raise SystemExit(f"the text of the plan of {name} {precision} was not recognised")
    stages = stages_of_nodes(bundle, target, wanted)
    launched = [k for k in plan.kernels if not {k.kind, k.category} & set(NOT_LAUNCHED)]
    kinds, moved = Counter(k.category for k in launched), Counter[str]()
    by_stage, counted = Counter[str](), Counter[str]()
    for kernel, stage in zip(launched, stages_of(launched, stages), strict=True):
        moved[kernel.category] += moved_by(kernel)
        by_stage[stage] += moved_by(kernel)
        counted[stage] += 1
    return {
        "model": name,
        "precision": precision,
        "kernels": {kind: kinds[kind] for kind in ("convolution", "gemm", "other")},
        "rounding": sum(kernel.is_rounding for kernel in launched),
        "loops": sum(kernel.kind == "cjmp" for kernel in plan.kernels),
        "bytes": {kind: moved[kind] for kind in ("convolution", "gemm", "other")},
        "bytes_a_frame": sum(moved.values()),
        "floor_bytes": floor(plan),
        "stages": {s: {"kernels": counted[s], "bytes": by_stage[s]} for s in by_stage},
        "device_memory_bytes": plan.device_memory_bytes,
        "layers": info["layers"],
        "engine_bytes": info["bytes"],
        "build_processor_seconds": round(spent, 1),
        "build_peak_bytes": info["peak_memory_bytes"],
    }  # fmt: skip


def processor_seconds() -> float:
    """Return what this program and its finished children took."""
    own, children = (
        resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return sum(used.ru_utime + used.ru_stime for used in (own, children))


def distinct(arguments: Iterable[Argument]) -> dict[str, int]:
    """Return name -> bytes."""
    return {argument.name: argument.size_bytes for argument in arguments}


def moved_by(kernel: Kernel) -> int:
    """Return what a kernel reads and writes, each tensor once."""
    return sum(distinct(kernel.inputs).values()) + sum(distinct(kernel.outputs).values())


def floor(plan: Plan) -> int:
    """Return the bytes of all tensors that convolutions and GEMMs read or write, each once."""
    heavy = [k for k in plan.kernels if k.category in ("convolution", "gemm")]
    return sum(distinct(a for k in heavy for a in (*k.inputs, *k.outputs)).values())


def stages_of_nodes(bundle: Bundle, target: Target, precision: Precision) -> dict[str, str]:
    """Return node of the lowered graph -> stage.

    A node of an operator's body is of that operator, one of a named layer of that layer's module,
    and any other of the stage before it.
    """
    model = read_model(bundle)
    rendered = calib.render(model, read_recipe(bundle, precision), calib.Style.TENSORRT)
    operators = [operator_of(n.op_type) for n in rendered.graph.node if n.domain == "maskrt"]
    stage, found = "backbone", {}
    for node in lower_for(target, rendered, "pluginless").model.graph.node:
        call = node.output[0].rpartition("__")[2]
        if call.isdigit() and node.output[0] != call:
            found[node.name] = operators[int(call) - 1]
            continue
        stage = stage_of_name(node.name) or stage
        found[node.name] = stage
    return found


def stage_of_name(name: str) -> str | None:
    """Return the stage of a module path, `roi_heads.mask_head.0`; None for a bare operator."""
    if "." not in name or (name.rpartition(".")[2].isdigit() and name.count(".") == 1):
        return None
    if name.startswith("backbone"):
        return "backbone"
    return next((stage for word, stage in HEADS.items() if word in name), "heads")


def stages_of(kernels: list[Kernel], known: dict[str, str]) -> Iterator[str]:
    """Yield the stage of each kernel: that of most of its nodes, or of the kernel before it."""
    stage = "backbone"
    for kernel in kernels:
        votes = Counter(known[name] for name in kernel.layers if name in known)
        stage = votes.most_common(1)[0][0] if votes else stage
        yield stage


def line(row: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Return a table's line for one program."""
    kernels = row["kernels"]
    shown = [
        row["model"], row["precision"],
        f"{kernels['convolution']} + {kernels['gemm']}",
        against(kernels["other"], before and before["kernels"]["other"]),
        against(row["rounding"], before and before["rounding"]),
        against(row["bytes_a_frame"] / 1e6, before and before["bytes_a_frame"] / 1e6),
        f"{row['floor_bytes'] / 1e6:.1f}",
        against(row["device_memory_bytes"] / 1e6, before and before["device_memory_bytes"] / 1e6),
        against(row["build_processor_seconds"], before and before["build_processor_seconds"]),
        against(row["build_peak_bytes"] / 1e6, before and before["build_peak_bytes"] / 1e6),
    ]  # fmt: skip
    return f"| {' | '.join(shown)} |"


def against(value: float, before: float | None) -> str:
    """Return the figure, and in brackets what it was."""

    def text(number: float) -> str:
        return str(number) if isinstance(number, int) else f"{number:.1f}"

    return text(value) if before is None else f"{text(value)} ({text(before)})"


def page(rows: list[dict[str, Any]], known: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Return the tables."""
    lines = [line(row, known.get((row["model"], row["precision"]))) for row in rows]
    stages = [
        text
        for row in rows
        for text in stage_lines(row, known.get((row["model"], row["precision"])))
    ]
    note = " In brackets: the commit before." if known else ""
    return "\n".join([
        "# TensorRT-RTX programs", "",
        f"`python benchmarks/rtx_program.py`, TensorRT-RTX {version('tensorrt-rtx')}.{note}",
        "Counts of the compiler's own program, read from the plan: no times.", "",
        "| model | precision | convolutions + GEMMs | other kernels | rounding | MB a frame "
        "| floor MB | device MB | build, processor s | build peak MB |", f"|{'---|' * 10}",
        *lines, "", "## By stage", "", "| model | precision | stage | kernels | MB a frame |",
        "|---|---|---|---|---|", *stages, "",
    ])  # fmt: skip


def stage_lines(row: dict[str, Any], before: dict[str, Any] | None) -> Iterator[str]:
    """Yield a line a stage."""
    for stage, found in row["stages"].items():
        old = before["stages"].get(stage) if before else None
        kernels = against(found["kernels"], old and old["kernels"])
        moved = against(found["bytes"] / 1e6, old and old["bytes"] / 1e6)
        yield f"| {row['model']} | {row['precision']} | {stage} | {kernels} | {moved} |"


if __name__ == "__main__":
    main()
