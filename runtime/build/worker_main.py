"""Builds one engine in a process of its own (`python -m ...worker_main FOLDER`).

TensorRT and TensorRT-RTX abort the process on some graphs, keep their first logger for the life of
the process, and hold on to the memory of a build. None of that may happen to the caller, so
`worker.py` runs this module as a child, which talks through files of one folder:

| file | written by | content |
|---|---|---|
| `model.onnx` | parent | standard operators, and plugin nodes for full TensorRT |
| `request.json` | parent | `package`, `form`, `sms`, `workspace` (bytes, or 0), options, `parent` |
| `engine.trt` | child | the serialized engine, only when the build succeeded |
| `report.json` | child | `version`, `errors`, `messages`, `network`, `layers`, memory, ... |

`errors` holds `{"node", "operator", "text"}` of each failure, and a `remedy` where that is not to
change an operator; `messages` what TensorRT logged at WARNING or above; `network` the type of each
convolution's and matrix product's input; `layers` the engine inspector's entries, which need a GPU
and are empty for TensorRT-RTX; `accelerated` the layers on the DLA, where one was asked for;
`user_allocation` whether the engine allocates nothing while it runs, and is to be given its memory.

Lines on standard output that start with `PROGRESS` say how far the build is. Should the parent be
gone, the build ends at its next step and takes the folder with it. TF32 is switched off: an engine
that says FP32 computes in FP32.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx

from ...core import require
from .capabilities import capabilities_of
from .inspected import inspected_layers
from .worker_steps import HUNDRED, make_monitor

__all__ = ["PROGRESS", "main"]

PROGRESS = "maskrt-progress "

_TYPES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8"}
_RELOAD = "free memory on this machine, or report the model"
_NO_DLA = "leave --dla out"
_LAYERS = {"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"}


def main(folder: Path) -> int:
    """Build what lies in `folder`; return 0 when the engine was written, else 1."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    trt = require(request["package"], "build engines")
    report: dict[str, Any] = {"version": trt.__version__, "errors": [], "messages": []}
    report.update(network={}, layers=[])
    plan = _build(trt, folder, request, report)
    if os.getppid() != request["parent"]:
        shutil.rmtree(folder, ignore_errors=True)
        return 1
    if plan is not None:
        (folder / "engine.trt").write_bytes(plan)
    report["peak_memory_bytes"] = _peak_memory_bytes()
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return 0 if plan is not None else 1


def _build(trt: Any, folder: Path, request: dict[str, Any], report: dict[str, Any]) -> Any:
    """Return the serialized engine, or None with the reasons in `report`."""
    _register(trt, folder, request["form"])
    builder = trt.Builder(_logger(trt, report["messages"]))
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(str(folder / "model.onnx")):
        found = (parser.get_error(index) for index in range(parser.num_errors))
        report["errors"] = [_error(error) for error in found]
        return None
    report["network"] = _input_types(network)
    config = _config(trt, builder, request)
    if request["dla"] is not None:
        report["accelerated"] = _accelerate(trt, config, network, set(request["accelerated"]))
        if not report["accelerated"]:
            text = "its DLA takes none of the layers that the recipe has for it"
            report["errors"] = [{"node": "", "operator": "", "text": text, "remedy": _NO_DLA}]
            return None
    monitor = _monitor(trt, request)
    if monitor is not None:
        config.progress_monitor = monitor
    timing = _read_timing(config, request["timing_cache"], report["messages"])
    plan = builder.build_serialized_network(network, config)
    report["user_allocation"] = _needs_user_allocation(trt, config)
    if plan is None and report["user_allocation"]:
        plan = _build_allocating(trt, builder, network, config, report)
    if plan is None:
        failures = [text for severity, text in report["messages"] if severity == "ERROR"]
        report["errors"] = [{"node": "", "operator": "", "text": text} for text in failures]
        return None
    _keep_timing(timing, request["timing_cache"])
    if request["package"] == "tensorrt" and not _inspect(
        trt, builder.logger, plan, request["dla"], report
    ):
        return None
    return plan


def _needs_user_allocation(trt: Any, config: Any) -> bool:
    flag = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    return flag is not None and bool(config.get_flag(flag))


def _build_allocating(
    trt: Any, builder: Any, network: Any, config: Any, report: dict[str, Any]
) -> Any:
    """Build an engine that may allocate while it runs, where TensorRT-RTX builds no other."""
    config.clear_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    messages, report["user_allocation"] = report["messages"], False
    reasons = [text for severity, text in messages if severity == "ERROR"] or ["no reason given"]
    text = f"The engine allocates while it runs, so its frames are no CUDA graph ({reasons[0]})."
    messages[:] = [m for m in messages if m[0] != "ERROR"] + [("WARNING", text)]  # the logger's
    return builder.build_serialized_network(network, config)


def _register(trt: Any, folder: Path, form: str) -> None:
    """Make the plugins known that the graph names."""
    if form == "plugins":
        from ...plugins.adapters.tensorrt_v3 import register_plugins

        register_plugins(trt)
    elif form == "aot":
        from ...plugins.adapters.tensorrt_aot import register_aot_plugins

        register_aot_plugins(onnx.load(folder / "model.onnx"), trt)


def _monitor(trt: Any, request: dict[str, Any]) -> Any:
    """Return a monitor that prints how far the build is, where the version has such a thing."""
    if not capabilities_of(request["package"], trt.__version__).progress_monitor:
        return None
    parent = request["parent"]

    def report(percent: int) -> None:
        with contextlib.suppress(OSError):
            os.write(1, f"{PROGRESS}{percent} {HUNDRED}\n".encode())

    return make_monitor(trt, report, lambda: os.getppid() == parent)


def _read_timing(config: Any, path: str, messages: list[tuple[str, str]]) -> Any:
    """Give the builder what was measured on this device before; return the cache, or None."""
    if not path:
        return None
    known = Path(path).read_bytes() if Path(path).is_file() else b""
    for content in (known, b""):
        cache = config.create_timing_cache(content)  # None for what it cannot read
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
        if content:
            text = f"{path} is of another device or TensorRT, or damaged: kernels are timed anew."
            messages.append(("WARNING", text))
    return None


def _keep_timing(cache: Any, path: str) -> None:
    """Write what was measured, beside its place and then renamed into it."""
    if cache is None:
        return
    with contextlib.suppress(OSError):  # a build that succeeded does not fail for this
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as file:
            file.write(bytes(cache.serialize()))
        os.replace(file.name, place)


def _inspect(trt: Any, logger: Any, plan: Any, dla: int | None, report: dict[str, Any]) -> bool:
    """Note what the finished engine says of its layers and of the memory that it will take.

    Returns:
        Whether it loads; if not, the reason is in the report.
    """
    said = len(report["messages"])
    runtime = trt.Runtime(logger)
    with contextlib.suppress(AttributeError):  # a version-compatible plan brings its own runtime
        runtime.engine_host_code_allowed = True
    if dla is not None:
        runtime.DLA_core = dla
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        reasons = [text for severity, text in report["messages"][said:] if severity == "ERROR"]
        text = ": ".join(["it does not load the engine that it built", *reasons[:1]])
        report["errors"] = [{"node": "", "operator": "", "text": text, "remedy": _RELOAD}]
        return False
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    report["layers"] = inspected_layers(text)
    sizes = (getattr(engine, f"device_memory_size{v}", None) for v in ("_v2", ""))  # from 10.1, 8.5
    report["device_memory_bytes"] = next((size for size in sizes if size is not None), None)
    return True


def _config(trt: Any, builder: Any, request: dict[str, Any]) -> Any:
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if request["workspace"]:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request["workspace"])
    if request["package"] == "tensorrt":
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    elif hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # from 1.2 on
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # else no capture of a stream
    if request["version_compatible"]:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if request["strip_weights"]:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
    if request["dla"] is not None:
        config.default_device_type = trt.DeviceType.GPU
        config.DLA_core = request["dla"]
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    if sms := request["sms"]:
        config.num_compute_capabilities = len(sms)
        for index, sm in enumerate(sms):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), index)
    return config


def _accelerate(trt: Any, config: Any, network: Any, names: set[str]) -> list[str]:
    """Put layers onto the DLA, each by its name; return those that it takes."""
    taken = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.name in names and config.can_run_on_DLA(layer):
            config.set_device_type(layer, trt.DeviceType.DLA)
            taken.append(layer.name)
    return taken


def _logger(trt: Any, messages: list[tuple[str, str]]) -> Any:
    class Collector(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity <= trt.ILogger.Severity.WARNING:
                level = "WARNING" if severity == trt.ILogger.Severity.WARNING else "ERROR"
                messages.append((level, msg))

    return Collector()


def _error(error: Any) -> dict[str, str]:
    return {"node": error.node_name(), "operator": error.node_operator(), "text": error.desc()}


def _input_types(network: Any) -> dict[str, str]:
    """Return layer → `"fp16"`, `"fp32"`, ...; `"int8"`, `"fp8"` where such a one is dequantized."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    producers = {
        layer.get_output(index).name: layer
        for layer in layers
        for index in range(layer.num_outputs)
        if layer.get_output(index) is not None
    }
    types = {}
    for layer in layers:
        if layer.type.name in _LAYERS:
            tensor = layer.get_input(0)
            source = producers.get(tensor.name)
            if source is not None and source.type.name == "DEQUANTIZE":
                types[layer.name] = "fp8" if source.get_input(0).dtype.name == "FP8" else "int8"
            else:
                types[layer.name] = _TYPES.get(tensor.dtype.name, "fp32")
    return types


def _peak_memory_bytes() -> int | None:
    """Return the most memory that this process held; None where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    return peaks[0] if peaks else None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
