"""What a Jetson's software is: JetPack comes with one Python, one CUDA and one TensorRT.

Source: NVIDIA JetPack release notes and the TensorRT support matrix.
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["JETPACKS", "JetPack", "is_jetson"]

_RELEASE = Path("/etc/nv_tegra_release")


@dataclass(frozen=True)
class JetPack:
    """One JetPack release.

    Attributes:
        version: such as `"6.2"`.
        python: of its Ubuntu, where JetPack installs TensorRT's bindings.
        cuda: toolkit.
        tensorrt: major and minor version.
        sms: compute capabilities of the modules that it runs on.
        patch: patch number of its TensorRT, where files are stamped with it.
    """

    version: str
    python: str
    cuda: str
    tensorrt: tuple[int, int]
    sms: tuple[int, ...]
    patch: int = 0


def is_jetson() -> bool:
    """Whether this machine is a Jetson; a container sees so where it is started with the GPU."""
    return _RELEASE.is_file()


JETPACKS: tuple[JetPack, ...] = (
    JetPack("5.1", "3.8", "11.4", (8, 5), (72, 87), 2),
    JetPack("6.0", "3.10", "12.2", (8, 6), (87,), 2),
    JetPack("6.2", "3.10", "12.6", (10, 3), (87,)),
    JetPack("7.1", "3.12", "13.0", (10, 13), (110,)),
    JetPack("7.2", "3.12", "13.2", (10, 16), (87, 110)),
)
