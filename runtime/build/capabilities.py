"""What each TensorRT can do, in one table: nothing else asks for a version.

| feature | full TensorRT | TensorRT-RTX |
|---|---|---|
| strongly typed networks | 10.0 | always |
| `FP16`, `INT8` builder flags, calibration caches | until 10.x | never |
| Python plugins (`IPluginV3`) | 10.0 | never |
| AOT plugins (the engine holds PTX) | 10.9 | never |
| built-in `ROIAlign_TRT`, `EfficientNMS_TRT` | until 10.x | never |
| DLA | until 10.7, and from 11.4 | never |
| version-compatible and hardware-compatible engines | 8.6 | never (always compatible) |
| stripped weights | 10.0 | never |

Source: TensorRT release notes and the support matrix.
"""

from dataclasses import dataclass
from typing import Literal

from ...core import UnsupportedTargetError

__all__ = ["Capabilities", "PluginForm", "capabilities_of", "parse_version"]

PluginForm = Literal["pluginless", "plugins", "aot", "builtin"]
_OLDEST = (8, 5)


@dataclass(frozen=True)
class Capabilities:
    """What one version of one package can do.

    Attributes:
        form: the body that lowering gives `maskrt` nodes.
        strongly_typed: precision lives in the graph alone.
        builder_flags: precision is asked for by flags, and scales by a calibration cache.
        dla: networks can run on a deep learning accelerator.
        version_compatible: engines can be built for later versions and other GPUs.
        strip_weights: engines can be built without their weights.
    """

    form: PluginForm
    strongly_typed: bool
    builder_flags: bool
    dla: bool
    version_compatible: bool
    strip_weights: bool


def capabilities_of(package: str, version: str) -> Capabilities:
    """Return what `package` ("tensorrt" or "tensorrt_rtx") can do in `version`.

    Raises:
        UnsupportedTargetError: the version is older than 8.5.
    """
    if package == "tensorrt_rtx":
        return Capabilities("pluginless", True, False, False, False, False)
    found = parse_version(version)
    if found < _OLDEST:
        raise UnsupportedTargetError(
            f"TensorRT {version} is older than maskrt builds for: install 8.5 or later."
        )
    return Capabilities(
        form="aot" if found >= (10, 9) else "plugins" if found >= (10, 0) else "builtin",
        strongly_typed=found >= (10, 0),
        builder_flags=found < (10, 0),
        dla=found <= (10, 7) or found >= (11, 4),
        version_compatible=found >= (8, 6),
        strip_weights=found >= (10, 0),
    )


def parse_version(version: str) -> tuple[int, int]:
    """Return major and minor number of a version such as `"10.16.1.11"`."""
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return int(major), int(minor or 0)
