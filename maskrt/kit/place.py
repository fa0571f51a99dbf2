"""Where a kit is unpacked: a Python, a platform, and the packages that maskrt needs there.

| target | Python | platform | packages beside maskrt's own |
|---|---|---|---|
| a Jetson | of each JetPack with TensorRT 10 or later | aarch64 | cuda-bindings, NVRTC |
| `rtx`, `rtx-<SM>` | this one, or as asked | x86-64, Linux, Windows | TensorRT-RTX, cuda-bindings |
| `gpu` | likewise | likewise | cuda-bindings, NVRTC |
| `cpu` | likewise | likewise | ONNX Runtime |

TensorRT itself is JetPack's on a Jetson, and the user's own for `gpu`: NVIDIA's wheels of it are
fetched from NVIDIA's index when they are installed, which a machine without a network cannot.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core import Target, UnsupportedTargetError, UsageError

__all__ = ["SYSTEMS", "Place", "places_of"]

SYSTEMS = ("linux", "windows")
_OLDEST_GLIBC, _JETSON_GLIBC, _DESKTOP_GLIBC = 17, 35, 31
_CHECK = "pycocotools>=2.0.8"
_NVRTC = {"12": "nvidia-cuda-nvrtc-cu12=={}.*", "13": "nvidia-cuda-nvrtc=={}.*"}


@dataclass(frozen=True)
class Place:
    """One Python on one platform.

    Attributes:
        python: such as `"3.10"`.
        system: `"linux"` or `"windows"`.
        machine: as `platform.machine()` says there.
        glibc: minor number of the newest glibc 2 that wheels may need.
        packages: what pip is to resolve beside maskrt's own requirements.
        built: packages that exist as source alone, of Python only: made into wheels here.
    """

    python: str
    system: str = "linux"
    machine: str = "x86_64"
    glibc: int = _DESKTOP_GLIBC
    packages: tuple[str, ...] = ()
    built: tuple[str, ...] = ()

    @property
    def tag(self) -> str:
        """The Python's tag, such as `"cp310"`."""
        return "cp" + self.python.replace(".", "")

    @property
    def platforms(self) -> tuple[str, ...]:
        """What pip calls the platform, newest first."""
        if self.system == "windows":
            return ("win_amd64",)
        newest = range(self.glibc, _OLDEST_GLIBC - 1, -1)
        named = [f"manylinux_2_{minor}_{self.machine}" for minor in newest]
        return (*named, f"manylinux2014_{self.machine}")

    def to_json(self) -> dict[str, Any]:
        """Return what `kit.json` says."""
        return {"python": self.python, "system": self.system, "machine": self.machine}


def places_of(
    target: Target, pythons: Sequence[str] = (), system: str = "linux"
) -> tuple[Place, ...]:
    """Return where a kit for `target` may be unpacked.

    Args:
        target: the device.
        pythons: versions such as `"3.12"`; none is the JetPacks', or this Python's.
        system: one of `SYSTEMS`.

    Raises:
        UnsupportedTargetError: the target's JetPacks have no TensorRT that maskrt builds with.
        UsageError: a Python or system that the target has not.
    """
    if target.is_jetson:
        return _jetson(target, pythons, system)
    if system not in SYSTEMS:
        raise UsageError(f"a kit is for {' or '.join(SYSTEMS)}, not {system}.")
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    packages, built = _desktop(target)
    return tuple(
        Place(python, system, packages=packages, built=built) for python in pythons or (here,)
    )


def _jetson(target: Target, pythons: Sequence[str], system: str) -> tuple[Place, ...]:
    packs = [pack for pack in target.jetpacks if pack.tensorrt >= (10, 0)]
    if not packs:
        raise UnsupportedTargetError(
            f"a kit brings maskrt to the device, and target {target.name} has no JetPack with "
            "TensorRT 10: copy the prepared folder tensorrt8/, which needs no Python packages."
        )
    known = {pack.python: pack for pack in reversed(packs)}  # the oldest of each Python
    if system != "linux" or not set(pythons) <= set(known):
        raise UsageError(
            f"target {target.name} has Linux and Python {' or '.join(known)}: leave out what asks "
            "for another."
        )
    found = []
    for python, pack in sorted(known.items()):
        nvrtc = _NVRTC[pack.cuda.partition(".")[0]].format(pack.cuda)
        packages = (pack.numpy, pack.cuda_bindings, nvrtc, _CHECK)
        if not pythons or python in pythons:
            found.append(Place(python, "linux", "aarch64", _JETSON_GLIBC, packages))
    return tuple(found)


def _desktop(target: Target) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if target.backend == "onnxruntime":
        return ("onnxruntime>=1.23", _CHECK), ()
    if target.backend == "tensorrt":
        return ("cuda-bindings==13.*", "nvidia-cuda-nvrtc==13.0.*", _CHECK), ()
    from ..core import require

    version = require("tensorrt_rtx", f"make a kit for target {target.name}").__version__
    wheels = [f"tensorrt-rtx-cu13-{part}=={version}" for part in ("libs", "bindings")]
    sources = [f"{name}=={version}" for name in ("tensorrt-rtx-cu13", "tensorrt-rtx")]
    return (*wheels, "cuda-bindings==13.*", _CHECK), tuple(sources)
