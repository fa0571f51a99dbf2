"""Prepares an engine for a device that this machine is not: all but the build itself.

An engine for a Jetson is built on the Jetson. What can be done before is done here: the graph is
rendered at its precision, the parts between the plugins go through the segment check, and what the
device needs is written beside the bundle's other engines:

| file | content |
|---|---|
| `prepared.json` | commands, memory, software of the device, result of the segment check |
| `model.onnx` | the graph in standard operators only, for `trtexec` |
| `README.md` | the same for a reader |

On the device `maskrt build` takes the bundle itself, lowers its graph to the plugins that the
TensorRT there has, and builds; it needs numpy, onnx, the CUDA driver and JetPack's own TensorRT.
"""

import time
from dataclasses import asdict
from typing import Any

import onnx

from ...core import (
    LAYER_PRECISIONS,
    MissingDependencyError,
    Precision,
    Progress,
    Target,
    require,
    silent,
)
from ...core.jetpack import JetPack
from ...plugins.adapters.tensorrt_nodes import lower_to_plugins
from .deconvolution import rewrite_int8_deconvolutions
from .engine import Engine, verify_graph
from .layers import find_heavy_layers, name_heavy_layers
from .long_topk import split_long_topk
from .lowered import lower_for
from .segments import SegmentReport, check_segments
from .uint8_input import cast_uint8_inputs

__all__ = ["prepare", "workspace_mib"]

_GIB = 1024
_STRONGLY_TYPED = (10, 0)
_OLDEST = "10.0"
_RESERVED = 1.5  # GB that the system and this process hold on a Jetson


def prepare(
    model: onnx.ModelProto,
    target: Target,
    precision: Precision,
    *,
    bundle_name: str,
    progress: Progress = silent,
) -> Engine:
    """Prepare the engine of `model`, which is already rendered at `precision`.

    Args:
        model: canonical graph, rendered; it is not changed.
        target: the device.
        precision: what the graph was rendered at.
        bundle_name: of the bundle, as the device will know it.
        progress: told of the segment check.

    Returns:
        The files, and what `prepared.json` says.

    Raises:
        UnsupportedTargetError: the graph cannot be lowered, or a segment does not build.
        PrecisionError: the graph is not one of `precision`.
    """
    started = time.perf_counter()
    named = onnx.ModelProto()
    named.CopyFrom(model)
    name_heavy_layers(named)
    layers = find_heavy_layers(named)
    verify_graph(layers, precision, target)
    segments = _check(named, target, progress)
    standard = _standard_graph(model, target)
    info = {
        "target": target.name,
        "backend": target.backend,
        "precision": precision.value,
        "layers": {p.value: sum(x.wanted is p for x in layers) for p in LAYER_PRECISIONS},
        "segments": None if segments is None else [asdict(report) for report in segments],
        "note": "" if segments is not None else _NOT_CHECKED,
        "workspace_mib": workspace_mib(target),
        "build_memory_mib": _build_memory_mib(target, segments, model.ByteSize()),
        "software": [_software(pack) for pack in target.jetpacks],
        "commands": _commands(target, precision, bundle_name),
        "prepare_seconds": round(time.perf_counter() - started, 2),
        "built": False,
    }
    files = {"model.onnx": standard, "README.md": _readme(target, info).encode()}
    return Engine(files, info)


_NOT_CHECKED = (
    "The segment check was left out, because tensorrt-rtx is not installed here: pip install "
    "'maskrt[rtx]' on an x86-64 machine and prepare again."
)


def workspace_mib(target: Target) -> int:
    """Return the workspace limit for a target, in MiB: a quarter of what a module leaves free."""
    if not target.memory:
        return 4 * _GIB
    return int((target.memory - _RESERVED) / 4 * _GIB)


def _check(
    model: onnx.ModelProto, target: Target, progress: Progress
) -> list[SegmentReport] | None:
    try:
        require("tensorrt_rtx", "check the segments of the graph")
    except MissingDependencyError:
        return None
    return check_segments(lower_to_plugins(model), target, progress=progress)


def _standard_graph(model: onnx.ModelProto, target: Target) -> bytes:
    lowered = lower_for(target, model, "pluginless").model
    cast_uint8_inputs(lowered)
    split_long_topk(lowered)
    rewrite_int8_deconvolutions(lowered)
    return lowered.SerializeToString()


def _build_memory_mib(
    target: Target, segments: list[SegmentReport] | None, graph_bytes: int
) -> int:
    """Return what a build is expected to hold at most: parser and weights, then the workspace.

    Measured for the segments where they were built; three copies of the graph where not.
    """
    peaks = [report.peak_memory_bytes or 0 for report in segments or []]
    held = max(peaks, default=0) or 3 * graph_bytes
    return workspace_mib(target) + held // 2**20


def _software(pack: JetPack) -> dict[str, Any]:
    return {
        "jetpack": pack.version,
        "python": pack.python,
        "cuda": pack.cuda,
        "tensorrt": ".".join(str(part) for part in pack.tensorrt),
        "builds_with": _builds_with(pack),
    }


def _builds_with(pack: JetPack) -> str:
    if not pack.runs_maskrt:
        return f"nothing yet: maskrt needs Python 3.10, and TensorRT {_OLDEST} or later"
    if pack.tensorrt < _STRONGLY_TYPED:
        return f"nothing yet: strongly typed graphs need TensorRT {_OLDEST} or later"
    return "maskrt build, or trtexec"


def _commands(target: Target, precision: Precision, bundle_name: str) -> dict[str, str]:
    folder = f"{bundle_name}/engines/{target.name}"
    return {
        "install": "python3 -m venv --system-site-packages ~/maskrt && "
        "~/maskrt/bin/pip install ./maskrt-*.whl",
        "build": f"~/maskrt/bin/maskrt build {bundle_name} --target {target.name} "
        f"--precision {precision.value}",
        "trtexec": f"trtexec --onnx={folder}/model.onnx --saveEngine={folder}/engine.trt "
        f"--stronglyTyped --memPoolSize=workspace:{workspace_mib(target)}M",
    }


def _readme(target: Target, info: dict[str, Any]) -> str:
    commands = info["commands"]
    rows = "\n".join(
        f"| {s['jetpack']} | {s['python']} | {s['cuda']} | {s['tensorrt']} | {s['builds_with']} |"
        for s in info["software"]
    )
    table = f"| JetPack | Python | CUDA | TensorRT | builds with |\n|---|---|---|---|---|\n{rows}\n"
    return f"""# {target.description}, {info["precision"]}

This engine is prepared, not built: TensorRT builds engines on the device that runs them.

On the device, with the bundle copied there:

    {commands["install"]}
    {commands["build"]}

or, without maskrt and without its plugins (slower RoIAlign and NMS), in TensorRT 10 or later:

    {commands["trtexec"]}

The build is expected to hold at most {info["build_memory_mib"]} MiB, of which
{info["workspace_mib"]} MiB are workspace. `make wheel` makes the wheel that is installed there.

{table if rows else ""}
None of this has run on the device that it is for.
"""
