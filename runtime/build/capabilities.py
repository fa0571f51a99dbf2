"""What each builder can do, in one table: nothing else asks for a version.

| feature | TensorRT | TensorRT-RTX | ONNX Runtime |
|---|---|---|---|
| operators as built-in plugins | 8.5, 8.6 | | |
| operators as Python plugins (`IPluginV3`) | from 10.0 | never | |
| operators as AOT plugins (the engine holds PTX) | from 10.9 | never | |
| strongly typed networks | from 10.0 (11: nothing else) | always | by its nature |
| `FP16`, `INT8` flags, calibration caches | to 10.x (maskrt: 8.5, 8.6) | never | never |
| uint8 network inputs | from 8.5 | yes | yes |
| workspace limit | yes | yes | no |
| timing cache | yes | a no-op since 1.2 | no |
| progress monitor | from 10.0 | yes | no |
| DLA | to 10.7; from 11.4.1, on AGX Orin alone | never; it ignores the request | no |
| INT8 on a DLA | by a calibration cache; with Q/DQ from 11.4.1 | | |
| version-compatible engines | from 8.6 | no: needs a library that it lacks | always |
| engines for other GPUs too | from 8.6, Ampere and later | always, within what was listed | |
| stripped weights | from 10.0 | not without a GPU | no |
| dynamic batch | in none: see `options.py` | | |

Source: TensorRT's release notes and support matrix, and for TensorRT-RTX what 1.7 did when asked.
"""

from dataclasses import dataclass
from typing import Literal

from ...core import UnsupportedTargetError

__all__ = ["BUILDER_NAMES", "Capabilities", "PluginForm", "capabilities_of", "parse_version"]

PluginForm = Literal["function", "pluginless", "plugins", "aot", "builtin"]
BUILDER_NAMES = {
    "onnxruntime": "ONNX Runtime",
    "tensorrt_rtx": "TensorRT-RTX",
    "tensorrt": "TensorRT",
}
_OLDEST = (8, 5)
_DLA_AGAIN = (11, 4, 1)  # 11.4.0 has one on Windows alone


@dataclass(frozen=True)
class Capabilities:
    """What one version of one package can do.

    Attributes:
        form: the body that lowering gives `maskrt` nodes.
        strongly_typed: precision lives in the graph alone.
        builder_flags: precision is asked for by flags, and scales by a calibration cache.
        uint8_input: a network's input may be uint8.
        workspace: the builder's scratch memory can be limited.
        timing_cache: what it measured of kernels can be kept for later builds.
        progress_monitor: a build reports its steps, and stops when told.
        dla: networks can run on a deep learning accelerator.
        dla_targets: the only targets on which they can; empty is any that has one.
        dla_int8: and in INT8, in the form that maskrt gives the graph for that version.
        version_compatible: engines can be built for later versions.
        hardware_compatible: engines can be built for other GPUs than the builder's own.
        strip_weights: engines can be built without their weights.
    """

    form: PluginForm
    strongly_typed: bool
    builder_flags: bool = False
    uint8_input: bool = True
    workspace: bool = True
    timing_cache: bool = False
    progress_monitor: bool = False
    dla: bool = False
    dla_targets: tuple[str, ...] = ()
    dla_int8: bool = False
    version_compatible: bool = False
    hardware_compatible: bool = False
    strip_weights: bool = False


_ONNX_RUNTIME = Capabilities("function", strongly_typed=True, workspace=False)
_TENSORRT_RTX = Capabilities(
    "pluginless", strongly_typed=True, progress_monitor=True, hardware_compatible=True
)


def capabilities_of(package: str, version: str) -> Capabilities:
    """Return what `package` ("tensorrt", "tensorrt_rtx", "onnxruntime") can do in `version`.

    Raises:
        UnsupportedTargetError: a TensorRT older than 8.5.
    """
    if package == "onnxruntime":
        return _ONNX_RUNTIME
    if package == "tensorrt_rtx":
        return _TENSORRT_RTX
    found = parse_version(version)
    if found < _OLDEST:
        raise UnsupportedTargetError(
            f"TensorRT {version} is older than maskrt builds for: install 8.5 or later."
        )
    return Capabilities(
        form="aot" if found >= (10, 9) else "plugins" if found >= (10, 0) else "builtin",
        strongly_typed=found >= (10, 0),
        builder_flags=found < (10, 0),
        timing_cache=True,
        progress_monitor=found >= (10, 0),
        dla=found < (10, 8) or found >= _DLA_AGAIN,
        dla_targets=("agx-orin",) if found >= _DLA_AGAIN else (),
        dla_int8=found < (10, 0) or found >= _DLA_AGAIN,
        version_compatible=found >= (8, 6),
        hardware_compatible=found >= (8, 6),
        strip_weights=found >= (10, 0),
    )


def parse_version(version: str) -> tuple[int, int, int]:
    """Return the first three numbers of a version such as `"10.16.1.11"`; absent ones are 0."""
    parts = version.split(".")[:3]
    major, minor, patch = (int(part) for part in (*parts, "0", "0")[:3])
    return major, minor, patch
