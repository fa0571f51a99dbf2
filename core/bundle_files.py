"""What each JSON file of a bundle says: the declarations that they are read back against.

A key that is missing here is let be; one that is here has its type and bounds wherever it stands.
`EngineInfo` and `PreparedInfo` have nothing that must be there, for older versions wrote less; who
needs more (`CompleteEngine`) says so.
"""

from typing import Annotated, Any, TypedDict

from .bounds import (
    BATCH,
    BYTE,
    CLASSES,
    COUNT,
    ENGINE_BYTES,
    FORMAT_VERSIONS,
    LENGTH,
    MILLISECONDS,
    NAME,
    POINTS,
    SECONDS,
    SIDE,
    SM,
)
from .input_spec import Placing, Resampling
from .masks import MaskFrame, MaskPaste
from .precision import Precision

__all__ = [
    "BenchFile", "BenchesFile", "CompleteEngine", "CompletePrepared", "EngineInfo",
    "ExplainedEngine", "ExplainedPrepared", "Loaded", "ManifestFile", "PreparedInfo", "ReportFile",
    "SearchFile", "declared",
]  # fmt: skip

Count = Annotated[int, COUNT]
Side = Annotated[int, SIDE]
Byte = Annotated[int, BYTE]
Name = Annotated[str, NAME]
Bytes = Annotated[int, ENGINE_BYTES]
Seconds = Annotated[float, SECONDS]
Ap = Annotated[float, POINTS] | None


class _InputWords(TypedDict, total=False):
    layout: str
    placing: Placing
    resampling: Resampling


class InputFile(_InputWords):
    """The manifest's `input`."""

    height: Side
    width: Side
    batch: Annotated[int, BATCH]
    pad_value: tuple[Byte, Byte, Byte]


class _File(TypedDict):
    file: str
    sha256: str


class _Weights(_File, total=False):
    part: str
    averaged: bool
    prefix: str
    left_out: Count


class Source(TypedDict, total=False):
    """The manifest's `source`."""

    model: str | None
    versions: dict[str, str]
    weights: _Weights | None
    labels: Annotated[int, CLASSES]
    onnx: _File
    warning: str


class Fidelity(TypedDict, total=False):
    """The manifest's `fidelity`."""

    compared: str
    pictures: Count
    instances: Count
    worst_box_iou: float | None
    worst_score_difference: float | None
    worst_mask_iou: float | None
    violations: list[str]
    warnings: list[str]
    borderline: list[str]


class _MaskWords(TypedDict, total=False):
    mask_frame: MaskFrame
    mask_paste: MaskPaste


class ManifestFile(_MaskWords):
    """`manifest.json`."""

    format_version: Annotated[int, FORMAT_VERSIONS]
    family: Name
    input: InputFile
    outputs: dict[str, list[Annotated[int, LENGTH]]]
    class_names: Annotated[list[Name], CLASSES] | None
    precision: Precision
    source: Source
    fidelity: Fidelity
    files: dict[str, str]


class _Options(TypedDict, total=False):
    workspace_mib: Count | None
    version_compatible: bool
    strip_weights: bool
    dla: Count | None
    gpu_fallback: bool


class _Payoff(TypedDict, total=False):
    pays: bool
    sentence: str


class _Built(TypedDict, total=False):
    """What `engine.json` and `prepared.json` have in common."""

    target: str
    backend: str
    precision: Precision
    layers: dict[str, Count]
    layer_precisions: dict[str, str]
    note: str
    form: str
    operators: list[str]
    sha256: dict[str, str] | None
    options: _Options | None
    payoff: _Payoff | None


class EngineInfo(_Built, total=False):
    """`engine.json`."""

    backend_version: str
    wider: list[str]
    bytes: Bytes
    build_seconds: Seconds
    cached: bool
    gpu: str
    sms: list[Annotated[int, SM]]
    weights: str
    runs_here: bool
    kernels: dict[str, Count] | None
    traffic_bytes: dict[str, Bytes] | None
    device_memory_bytes: Bytes | None
    peak_memory_bytes: Bytes | None
    user_allocation: bool
    warnings: list[str]
    total_seconds: Seconds


class Loaded(TypedDict):
    """What an `engine.json` says by which an engine of full TensorRT is opened."""

    sms: Any
    backend_version: Any
    form: Any


class CompleteEngine(TypedDict):
    """What an `engine.json` says of which `inspect` tells."""

    precision: Any
    bytes: Any
    build_seconds: Any


class ExplainedEngine(TypedDict):
    """What an `engine.json` says of which `doctor` tells."""

    precision: Any
    backend: Any
    layers: Any
    wider: Any


class _Segment(TypedDict):
    nodes: Count


class _Commands(TypedDict):
    build: str


class _Prepared(_Built, total=False):
    bundle: str
    segments: list[_Segment] | None
    build_memory_mib: Count
    workspace_mib: Count


class PreparedInfo(_Prepared):
    """`prepared.json`."""

    commands: _Commands


class CompletePrepared(TypedDict):
    """What a `prepared.json` says of which `inspect` tells."""

    precision: Any
    segments: Any
    build_memory_mib: Any
    note: Any


class ExplainedPrepared(TypedDict):
    """What a `prepared.json` says of which `doctor` tells."""

    build_memory_mib: Any


class _Best(TypedDict):
    method: str
    int8_layers: Count
    layers: Count
    drop: Ap


class SearchFile(TypedDict):
    """`search.json`."""

    budget: Annotated[float, POINTS]
    best: _Best
    trials: list[Any]


class _Metrics(TypedDict):
    AP: Ap


class _Digests(TypedDict, total=False):
    weights: str | None
    graph: str | None
    recipe: str | None
    annotations: str | None
    data: str | None
    engine: dict[str, str]


class _Machine(TypedDict, total=False):
    cpu: str | None
    gpu: str | None
    system: str | None


class _Provenance(TypedDict, total=False):
    bundle: str
    model: str
    family: str
    sha256: _Digests
    machine: _Machine
    versions: dict[str, str]
    date: str
    command: str


class _Judged(TypedDict, total=False):
    reference_name: str | None
    drop: dict[str, dict[str, Ap]] | None
    budget: float | None
    note: str
    latency_ms: dict[str, float]
    foretold: dict[str, Any] | None
    provenance: _Provenance


class ReportFile(_Judged):
    """`report/report.json`, as far as it is read back."""

    target: str
    precision: Precision
    images: Count
    metrics: dict[str, _Metrics]
    passed: bool


class _Total(TypedDict):
    p50: Annotated[float, MILLISECONDS]


class _Stages(TypedDict):
    total: _Total


class BenchFile(TypedDict):
    """What `maskrt bench --json FILE` wrote, as far as it is read back."""

    target: str
    precision: Precision
    batch: Annotated[int, BATCH]
    stages_ms: _Stages


class BenchesFile(TypedDict):
    """The same of several engines in turn."""

    engines: list[BenchFile]


_BY_NAME: dict[str, tuple[Any, str]] = {
    "engine.json": (EngineInfo, "build the engine again"),
    "prepared.json": (PreparedInfo, "prepare it again with maskrt build"),
    "search.json": (SearchFile, "compile the model again"),
    "report.json": (ReportFile, "run maskrt check again"),
    "recipe.json": (dict[str, Any], "run maskrt calibrate again"),
}


def declared(relative: str) -> tuple[Any, str]:
    """Return the declaration of a bundle's JSON file, and what makes the file anew."""
    return _BY_NAME.get(relative.rpartition("/")[2], (dict[str, Any], "compile the model again"))
