"""Prepares an engine for a device that this machine is not: all but the build itself.

An engine for a Jetson is built on the Jetson. What can be done before is done here: the graph is
rendered at its precision, the parts between the plugins go through the segment check, and what the
device needs is written beside the bundle's other engines:

| file | content | for |
|---|---|---|
| `prepared.json` | commands, memory, software of the device, result of the segment check | |
| `README.md` | the same for a reader | |
| `model.onnx` | the graph in standard operators only, for `trtexec` | TensorRT 10 and later |
| `tensorrt8/` | graph, calibration cache, `trtexec` line: `tensorrt8.py` | JetPack 5 and 6.0 |

Where the device has TensorRT 10, `maskrt build --here` takes the bundle itself, lowers its graph to
the plugins that the TensorRT there has, and builds; it needs numpy, onnx, the CUDA driver and
JetPack's own TensorRT.
"""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import onnx

from ...core import (
    LAYER_PRECISIONS,
    MissingDependencyError,
    Precision,
    Progress,
    Target,
    UnsupportedTargetError,
    require,
    silent,
)
from ...core.jetpack import JetPack
from ...plugins.adapters.tensorrt_nodes import lower_to_plugins
from .capabilities import capabilities_of
from .deconvolution import rewrite_int8_deconvolutions
from .engine import Engine, operator_info, verify_graph
from .layers import find_heavy_layers, name_heavy_layers
from .long_topk import split_long_topk
from .lowered import batch_of, lower_for
from .options import BuildOptions, check_options
from .prepared_text import commands, readme
from .segments import SegmentReport, check_segments
from .tensorrt8 import FOLDER, WeakTypes, lower_to_tensorrt8, packs_of, trtexec_files
from .uint8_input import cast_uint8_inputs

__all__ = ["prepare", "standard_graph", "workspace_mib"]

_GIB = 1024
_TYPED = (10, 0)  # from here on, networks are strongly typed and plugins can be Python's
_RESERVED = 1.5  # GB that the system and this process hold on a Jetson
_NOT_CHECKED = (
    "The segment check was left out, because tensorrt-rtx is not installed here: pip install "
    "'maskrt[rtx]' on an x86-64 machine and prepare again."
)


@dataclass
class _Prepared:
    """What was made so far: files, segments (None: not checked), and why a JetPack is left out."""

    files: dict[str, bytes] = field(default_factory=dict)
    segments: list[SegmentReport] | None = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def check(self, model: onnx.ModelProto, target: Target, progress: Progress) -> None:
        """Put a graph with plugin nodes through the segment check, if TensorRT-RTX is here."""
        found = _check(model, target, progress)
        self.segments = None if found is None else [*(self.segments or []), *found]


def prepare(
    model: onnx.ModelProto,
    target: Target,
    precision: Precision,
    *,
    bundle_name: str,
    folder: str,
    canonical: onnx.ModelProto,
    weak: WeakTypes,
    progress: Progress = silent,
    options: BuildOptions | None = None,
) -> Engine:
    """Prepare the engine of `model`, which is already rendered at `precision`.

    Args:
        model: canonical graph, rendered; it is not changed.
        target: the device.
        precision: what the graph was rendered at.
        bundle_name: of the bundle, as the device will know it.
        folder: where the files will lie in the bundle.
        canonical: the FP32 graph that `model` was rendered from.
        weak: the same precisions for TensorRT 8.
        progress: told of the segment check.
        options: how to build on the device.

    Returns:
        The files, and what `prepared.json` says.

    Raises:
        UnsupportedTargetError: no JetPack of the target takes the graph or the options, or a
            segment does not build.
        PrecisionError: the graph is not one of `precision`.
    """
    started = time.perf_counter()
    asked = options or BuildOptions()
    named = onnx.ModelProto()
    named.CopyFrom(model)
    name_heavy_layers(named)
    layers = find_heavy_layers(named)
    verify_graph(layers, precision, target)
    made = _Prepared(refused=_refusals(asked, target, precision, batch_of(model)))
    workspace = asked.workspace_mib or workspace_mib(target)
    packs = [pack for pack in target.jetpacks if pack.version not in made.refused]
    if any(pack.tensorrt >= _TYPED for pack in packs):
        made.check(lower_to_plugins(named), target, progress)
        made.files["model.onnx"] = standard_graph(model, target).SerializeToString()
    if any(pack in packs for pack in packs_of(target)):
        _prepare_tensorrt8(made, canonical, weak, target, precision, asked, progress)
    info = {
        "target": target.name,
        "bundle": bundle_name,
        "backend": target.backend,
        "precision": precision.value,
        "layers": {
            p.value: sum(x.wanted is p for x in layers) for p in {*LAYER_PRECISIONS, precision}
            if p is not Precision.MIXED
        },
        "layer_precisions": {layer.name: layer.wanted.value for layer in layers},
        **operator_info(model, "plugins"),
        "options": asked.to_json(),
        "segments": None if made.segments is None else [asdict(r) for r in made.segments],
        "note": "" if made.segments is not None else _NOT_CHECKED,
        "workspace_mib": workspace,
        "build_memory_mib": _build_memory_mib(workspace, made.segments, model.ByteSize()),
        "software": [_software(pack, made.refused, asked.dla) for pack in target.jetpacks],
        "commands": commands(target, precision, folder, made.files, asked, workspace, bundle_name),
        "prepare_seconds": round(time.perf_counter() - started, 2),
        "built": False,
    }  # fmt: skip
    made.files["README.md"] = readme(target, info).encode()
    return Engine(made.files, info)


def workspace_mib(target: Target) -> int:
    """Return the workspace limit for a target, in MiB: a quarter of what a module leaves free."""
    if not target.memory:
        return 4 * _GIB
    return int((target.memory - _RESERVED) / 4 * _GIB)


def _refusals(
    options: BuildOptions, target: Target, precision: Precision, batch: int
) -> dict[str, str]:
    """Return JetPack release → why its TensorRT cannot do as asked.

    Raises:
        UnsupportedTargetError: none of them can.
    """
    refused = {}
    for pack in target.jetpacks:
        version = pack.tensorrt_version
        can, name = capabilities_of("tensorrt", version), f"TensorRT {version}"
        try:
            check_options(options, target, can, name, precision=precision, batch=batch)
        except UnsupportedTargetError as error:
            refused[pack.version] = str(error)
            if len(refused) == len(target.jetpacks):
                raise
    return refused


def _prepare_tensorrt8(
    made: _Prepared,
    canonical: onnx.ModelProto,
    weak: WeakTypes,
    target: Target,
    precision: Precision,
    options: BuildOptions,
    progress: Progress,
) -> None:
    """Add the folder for TensorRT 8; where the target also has a later one, it may be refused."""
    packs = [pack for pack in packs_of(target) if pack.version not in made.refused]
    workspace = options.workspace_mib or workspace_mib(target)
    try:
        lowered = lower_to_tensorrt8(canonical, target)
        files = trtexec_files(lowered, weak, target, precision, options, workspace, packs)
    except UnsupportedTargetError as error:
        if len(packs) == len(target.jetpacks):
            raise
        made.refused |= {pack.version: str(error) for pack in packs}
        return
    made.check(lowered, target, progress)
    made.files |= {f"{FOLDER}/{name}": data for name, data in files.items()}


def _check(
    model: onnx.ModelProto, target: Target, progress: Progress
) -> list[SegmentReport] | None:
    try:
        require("tensorrt_rtx", "check the segments of the graph")
    except MissingDependencyError:
        return None
    return check_segments(model, target, progress=progress)


def standard_graph(model: onnx.ModelProto, target: Target) -> onnx.ModelProto:
    """Return a rendered graph in standard operators only, as `trtexec` takes it."""
    lowered = lower_for(target, model, "pluginless").model
    cast_uint8_inputs(lowered)
    split_long_topk(lowered)
    rewrite_int8_deconvolutions(lowered)
    return lowered


def _build_memory_mib(
    workspace: int, segments: list[SegmentReport] | None, graph_bytes: int
) -> int:
    """Return what a build is expected to hold at most: parser and weights, then the workspace.

    Measured for the segments where they were built; three copies of the graph where not.
    """
    peaks = [report.peak_memory_bytes or 0 for report in segments or []]
    held = max(peaks, default=0) or 3 * graph_bytes
    return workspace + held // 2**20


def _software(pack: JetPack, refused: dict[str, str], dla: int | None) -> dict[str, Any]:
    if pack.version in refused:
        builds_with = f"nothing: {refused[pack.version]}"
    elif pack.tensorrt < _TYPED:
        builds_with = f"{'trtexec' if dla is None else 'python3'}, in {FOLDER}/"
    else:
        builds_with = "maskrt build, or trtexec" if dla is None else "maskrt build"
    return {
        "jetpack": pack.version,
        "python": pack.python,
        "cuda": pack.cuda,
        "tensorrt": pack.tensorrt_version,
        "cuda_bindings": pack.cuda_bindings,
        "builds_with": builds_with,
    }
