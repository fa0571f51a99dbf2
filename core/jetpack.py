"""What a Jetson's software is: JetPack comes with one Python, one CUDA and one TensorRT.

TensorRT 11.4.1 is no part of a JetPack: it is installed over 7.2.2 and later, on AGX Orin and Thor.

Source: NVIDIA JetPack release notes, the TensorRT support matrix, and "Migrating TensorRT from 10.x
to 11.x on Jetson/JetPack".
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["JETPACKS", "TRTEXEC", "JetPack", "is_jetson"]

TRTEXEC = "/usr/src/tensorrt/bin/trtexec"  # where NVIDIA's packages put it; it is on no PATH
_RELEASE = Path("/etc/nv_tegra_release")


@dataclass(frozen=True)
class JetPack:
    """One JetPack release.

    Attributes:
        version: such as `"6.2"`.
        python: of its Ubuntu, where JetPack installs TensorRT's bindings.
        cuda: toolkit.
        tensorrt: its version, three numbers.
        sms: compute capabilities of the modules that it runs on.
        targets: the modules' targets, where not all of that compute capability are meant.
    """

    version: str
    python: str
    cuda: str
    tensorrt: tuple[int, int, int]
    sms: tuple[int, ...]
    targets: tuple[str, ...] = ()

    @property
    def tensorrt_version(self) -> str:
        """Such as `"10.3.0"`."""
        return ".".join(map(str, self.tensorrt))

    @property
    def cuda_bindings(self) -> str:
        """What pip is to install of cuda-bindings, such as `"cuda-bindings==12.8.*"`.

        12.9 is built for servers and does not run on JetPack 6.
        """
        major = self.cuda.partition(".")[0]
        return f"cuda-bindings=={'12.8' if major == '12' else major}.*"

    @property
    def numpy(self) -> str:
        """What pip is to install of NumPy.

        The bindings of TensorRT before 10.16 misread plugin fields of several elements with NumPy
        2. maskrt has none; a program beside it may.
        """
        return "numpy<2" if self.tensorrt < (10, 16) else "numpy"


def is_jetson() -> bool:
    """Whether this machine is a Jetson; a container sees so where it is started with the GPU."""
    return _RELEASE.is_file()


JETPACKS: tuple[JetPack, ...] = (
    JetPack("5.1", "3.8", "11.4", (8, 5, 2), (72, 87)),
    JetPack("6.0", "3.10", "12.2", (8, 6, 2), (87,)),
    JetPack("6.2", "3.10", "12.6", (10, 3, 0), (87,)),
    JetPack("7.1", "3.12", "13.0", (10, 13, 3), (110,)),
    JetPack("7.2", "3.12", "13.2", (10, 16, 1), (87, 110)),
    JetPack("7.2.2", "3.12", "13.2", (11, 4, 1), (87, 110), ("agx-orin", "thor")),
)
