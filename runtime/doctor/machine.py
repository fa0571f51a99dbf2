"""Facts of a machine, read from files, package metadata and the CUDA driver: nothing is imported.

Every way to a fact is in `Probe`, so that a test can show a Jetson or a GPU to a machine that is
neither.
"""

import ctypes
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...core.cuda_library import open_cuda_library
from ..cuda_device import compute_capabilities
from .jetson import Jetson, read_jetson, read_text

__all__ = ["PACKAGES", "Gpu", "Machine", "Probe", "look"]

PACKAGES: dict[str, str] = {
    "numpy": "everything",
    "onnx": "everything",
    "torch": "compile: export of PyTorch models",
    "torchvision": "compile: its detectors",
    "onnxscript": "compile: export of PyTorch models",
    "safetensors": "compile: .safetensors weights",
    "onnxruntime": "target cpu, calibration",
    "tensorrt": "targets gpu and Jetson",
    "tensorrt-rtx": "targets rtx and rtx-SM",
    "cuda-bindings": "running on GPU targets; pycuda does, too",
    "cuda-python": "brings cuda-bindings",
    "pycuda": "running on GPU targets, where cuda-bindings is absent",
    "nvidia-cuda-nvrtc": "compiling kernels",
    "pycocotools": "check",
    "scikit-image": "demo",
    "opencv-python-headless": "videos, demo",
}
_ALSO_CALLED = {
    "tensorrt": ("tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11"),
    "nvidia-cuda-nvrtc": ("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc-cu11"),
    "onnxruntime": ("onnxruntime-gpu",),
    "opencv-python-headless": ("opencv-python",),
}
_NVIDIA, _DISPLAY = "0x10de", "0x03"


@dataclass(frozen=True)
class Gpu:
    """One CUDA device: compute capability (89 means 8.9) and the driver's name for it."""

    sm: int
    name: str = ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _driver_cuda() -> tuple[int, int] | None:
    """Return the CUDA version that the driver brings, asked of the driver; None without one."""
    driver, number = open_cuda_library(), ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(number)) != 0 or not number.value:
        return None
    return number.value // 1000, number.value % 1000 // 10


@dataclass(frozen=True)
class Probe:
    """Where facts come from.

    Attributes:
        root: file system.
        version: distribution name -> installed version, or None.
        sms: compute capability of each CUDA device.
        driver_cuda: CUDA version of the driver, or None.
        environment: variables.
        python: version of the interpreter.
        in_venv: whether it is a virtual environment's.
        venv: that environment's folder.
    """

    root: Path = Path("/")
    version: Callable[[str], str | None] = _version
    sms: Callable[[], tuple[int, ...]] = compute_capabilities
    driver_cuda: Callable[[], tuple[int, int] | None] = _driver_cuda
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    python: str = field(default_factory=platform.python_version)
    architecture: str = field(default_factory=platform.machine)
    in_venv: bool = field(default_factory=lambda: sys.prefix != sys.base_prefix)
    venv: Path = field(default_factory=lambda: Path(sys.prefix))


@dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        driver: version of the kernel driver, or empty.
        driver_cuda: newest CUDA whose PTX the driver compiles, or empty.
        toolkit: CUDA toolkit below /usr/local/cuda, or empty.
        nvidia_cards: NVIDIA display cards on the PCI bus, with or without a driver.
        system_tensorrt: version of the TensorRT that the system's package manager installed.
        venv: "none", "plain", or "system-site" for one that sees the system's packages.
        packages: distribution -> version, the absent ones left out.
    """

    python: str
    architecture: str
    memory_gb: float
    memory_free_gb: float
    swap_gb: float
    gpus: tuple[Gpu, ...]
    driver: str
    driver_cuda: str
    toolkit: str
    nvidia_cards: int
    system_tensorrt: str
    venv: str
    visible_devices: str | None
    packages: dict[str, str]
    jetson: Jetson | None


def look(probe: Probe) -> Machine:
    """Read all facts."""
    root = probe.root
    memory = _memory(root)
    cuda = probe.driver_cuda()
    return Machine(
        python=probe.python,
        architecture=probe.architecture,
        memory_gb=memory.get("MemTotal", 0.0),
        memory_free_gb=memory.get("MemAvailable", 0.0),
        swap_gb=memory.get("SwapTotal", 0.0),
        gpus=_gpus(root, probe.sms()),
        driver=_driver(root),
        driver_cuda="" if cuda is None else f"{cuda[0]}.{cuda[1]}",
        toolkit=_toolkit(root),
        nvidia_cards=_nvidia_cards(root),
        system_tensorrt=_system_tensorrt(root),
        venv=_venv(probe),
        visible_devices=probe.environment.get("CUDA_VISIBLE_DEVICES"),
        packages=_packages(probe.version),
        jetson=read_jetson(root),
    )


def _memory(root: Path) -> dict[str, float]:
    """Return the entries of /proc/meminfo in GB."""
    lines = re.findall(r"^(\w+):\s+(\d{1,15}) kB", read_text(root / "proc/meminfo"), re.MULTILINE)
    return {name: round(int(kib) * 1024 / 1e9, 1) for name, kib in lines}


def _gpus(root: Path, sms: tuple[int, ...]) -> tuple[Gpu, ...]:
    files = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    names = [re.search(r"Model:\s*(.+)", read_text(file)) for file in files]
    known = [match[1].strip() for match in names if match]
    # The driver may show fewer devices than there are: then a name cannot be told to belong.
    shown = known if len(known) == len(sms) else [""] * len(sms)
    return tuple(Gpu(sm, name) for sm, name in zip(sms, shown, strict=True))


def _driver(root: Path) -> str:
    text = read_text(root / "proc/driver/nvidia/version")
    match = re.search(r"(?:Kernel Module|x86_64|aarch64)\s+(?:for \w+\s+)?(\d+\.[\d.]+)", text)
    return match[1] if match else ""


def _toolkit(root: Path) -> str:
    try:
        return str(json.loads(read_text(root / "usr/local/cuda/version.json"))["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        return ""


def _nvidia_cards(root: Path) -> int:
    devices = (root / "sys/bus/pci/devices").glob("*")
    return sum(
        read_text(device / "vendor").strip() == _NVIDIA
        and read_text(device / "class").startswith(_DISPLAY)
        for device in devices
    )


def _system_tensorrt(root: Path) -> str:
    """Return the version of libnvinfer in dpkg's list."""
    for entry in read_text(root / "var/lib/dpkg/status").split("\n\n"):
        if re.search(r"^Package: libnvinfer\d+$", entry, re.MULTILINE):
            match = re.search(r"^Version: ([\d.]+)", entry, re.MULTILINE)
            return match[1] if match else ""
    return ""


def _venv(probe: Probe) -> str:
    if not probe.in_venv:
        return "none"
    settings = read_text(probe.venv / "pyvenv.cfg")
    sees = re.search(r"include-system-site-packages\s*=\s*true", settings, re.IGNORECASE)
    return "system-site" if sees else "plain"


def _packages(version: Callable[[str], str | None]) -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        names = (package, *_ALSO_CALLED.get(package, ()))
        present = next((v for name in names if (v := version(name)) is not None), None)
        if present is not None:
            found[package] = present
    return found
