"""Builds engines with full TensorRT, on the device that is to run them. Has not run on hardware.

    rendered graph → plugin nodes → two rewrites → child process → engine
    the engine inspector's report → precisions of the layers → verify

The child is the one that builds for TensorRT-RTX (`worker.py`), so all but the plugins and the
inspector is exercised on every machine. Which form the operators take, and what the builder can be
asked for, is in `capabilities.py`; how they become plugins in `plugins/adapters/`.
"""

import importlib.util
from collections.abc import Collection
from typing import Any, NoReturn

import onnx

from ...core import Precision, Target, UnsupportedTargetError, require
from ...core.jetpack import is_jetson
from ...plugins import DOMAIN, lower
from ...plugins.adapters.tensorrt_aot import register_aot_plugins
from ...plugins.adapters.tensorrt_nodes import lower_to_aot, lower_to_plugins
from ...plugins.adapters.tensorrt_v3 import register_plugins
from ..cuda_device import compute_capabilities, gpu_names
from .capabilities import PluginForm, capabilities_of
from .engine import Engine, Found, operator_info, precision_info, unread, verify, verify_graph
from .inspected import inspected_precisions
from .layers import find_heavy_layers, name_heavy_layers
from .long_topk import split_long_topk
from .lowered import batch_of
from .options import BuildOptions, check_options
from .prepare import workspace_mib
from .uint8_input import cast_uint8_inputs
from .worker import Step, build_in_child, no_step

__all__ = ["build", "refuse_here", "why_not"]


def build(
    model: onnx.ModelProto,
    target: Target,
    precision: Precision,
    options: BuildOptions | None = None,
    step: Step = no_step,
    accelerated: Collection[str] = (),
) -> Engine:
    """Build the engine of `model`, which is already rendered at `precision`.

    Args:
        model: canonical graph, rendered.
        target: the device.
        precision: what it was rendered at.
        options: how to build.
        step: told how far the build is.
        accelerated: names of the nodes that run on the DLA, where one is asked for.

    Raises:
        MissingDependencyError: TensorRT is not installed.
        UnsupportedTargetError: TensorRT does not take the graph, or is too old for it.
        PrecisionError: the engine's precisions are not those asked for.
    """
    trt = require("tensorrt", f"build engines for target {target.name}")
    can = capabilities_of("tensorrt", trt.__version__)
    if not can.strongly_typed:
        raise UnsupportedTargetError(
            f"TensorRT {trt.__version__} does not type networks strongly: build the prepared graph "
            "with trtexec, or install JetPack 6.1 or later."
        )
    asked = options or BuildOptions()
    name = f"TensorRT {trt.__version__}"
    check_options(asked, target, can, name, precision=precision, batch=batch_of(model))
    named = onnx.ModelProto()
    named.CopyFrom(model)
    name_heavy_layers(named)
    layers = find_heavy_layers(named)
    verify_graph(layers, precision, target)
    lowered = _lowered(named, can.form)
    cast_uint8_inputs(lowered)
    split_long_topk(lowered)
    workspace = (asked.workspace_mib or workspace_mib(target)) << 20
    request: dict[str, Any] = {"package": "tensorrt", "form": can.form, "workspace": workspace}
    if asked.dla is not None:
        request["accelerated"] = sorted(_accelerated(lowered, accelerated, target))
    version = trt.__version__
    built = build_in_child(lowered, target, request, version=version, options=asked, step=step)
    found = inspected_precisions(built.report["layers"], [layer.name for layer in layers])
    verify(layers, found, target)
    info = {
        "target": target.name,
        "backend": target.backend,
        "backend_version": built.report["version"],
        "gpu": next(iter(gpu_names()), ""),
        "sms": list(compute_capabilities()[:1]),
        **operator_info(model, can.form),
        **precision_info(found, precision),
        "note": _note(asked, found),
        "bytes": len(built.plan),
        "build_seconds": built.seconds,
        "cached": built.cached,
        "options": asked.to_json(),
        "runs_here": True,
        **({"accelerated": built.report["accelerated"]} if asked.dla is not None else {}),
        "device_memory_bytes": built.report.get("device_memory_bytes"),
        "peak_memory_bytes": built.report["peak_memory_bytes"],
        "warnings": [text for severity, text in built.report["messages"] if severity == "WARNING"],
    }
    files = {"engine.trt": built.plan}
    if asked.strip_weights:
        files["refit.onnx"] = lowered.SerializeToString()
    return Engine(files, info)


def _accelerated(
    lowered: onnx.ModelProto, wanted: Collection[str], target: Target
) -> Collection[str]:
    names = {node.name for node in lowered.graph.node}.intersection(wanted)
    if not names:
        raise UnsupportedTargetError(
            f"the DLA of target {target.name} takes none of the graph's layers: leave --dla out."
        )
    return names


def _note(options: BuildOptions, found: Found) -> str:
    notes = [missing] if (missing := unread(found)) else []
    if options.strip_weights:
        notes.append(
            "Without weights: refit it from refit.onnx with TensorRT's OnnxParserRefitter."
        )
    return " ".join(notes)


def refuse_here(model: onnx.ModelProto, target: Target) -> NoReturn:
    """Go as far towards a build as this machine can, then say what it lacks.

    The graph is lowered, and its plugins are registered in the TensorRT that is here.

    Raises:
        MissingDependencyError: this is a Jetson whose TensorRT this Python does not see.
        UnsupportedTargetError: always else, with what was reached.
    """
    if importlib.util.find_spec("tensorrt") is None and not is_jetson():
        raise UnsupportedTargetError(
            f"target {target.name} cannot be built here, because it is built on the device itself, "
            f"a {target.description}: copy the bundle there and repeat this command, or leave "
            "--here out to prepare the build."
        )
    trt = require("tensorrt", f"build engines for target {target.name}")
    can = capabilities_of("tensorrt", trt.__version__)
    lowered = _lowered(model, can.form)
    if can.form == "aot":
        names = register_aot_plugins(lowered, trt)
    else:
        names = tuple(creator.name for creator in register_plugins(trt))
    wanted = {node.op_type for node in lowered.graph.node if node.domain == DOMAIN}
    raise UnsupportedTargetError(
        f"target {target.name} cannot be built here, because {why_not(target)}: TensorRT "
        f"{trt.__version__} has registered the graph's {len(wanted.intersection(names))} plugins, "
        f"and the rest needs the GPU of a {target.description} (in a container, --runtime nvidia)."
    )


def why_not(target: Target) -> str:
    """Return why this machine cannot build for `target`, or nothing if it can."""
    if importlib.util.find_spec("tensorrt") is None:
        return "TensorRT is not installed here"
    found = compute_capabilities()
    if not found:
        return "this machine has no NVIDIA GPU"
    if target.sms and not set(target.sms) & set(found):
        return f"this machine's GPU is SM {found[0] // 10}.{found[0] % 10}"
    return ""


def _lowered(model: onnx.ModelProto, form: PluginForm) -> onnx.ModelProto:
    if form == "aot":
        return lower_to_aot(model)
    return lower_to_plugins(model) if form == "plugins" else lower(model, "pluginless")
