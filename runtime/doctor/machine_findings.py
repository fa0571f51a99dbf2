"""Facts of a machine → findings, one function a failure."""

import re
from collections.abc import Callable, Iterator

from .failures import Finding, Level
from .machine import Machine

__all__ = ["diagnose_machine", "numbers"]

_SMALL_MODULE_GB = 9.0  # a build of a Mask R-CNN holds 1 to 4 GB beside the system
_NUMBER = re.compile(r"[0-9]{1,9}")


def diagnose_machine(machine: Machine) -> list[Finding]:
    """Return every failure that `machine` shows."""
    return [finding for check in _CHECKS for finding in check(machine)]


def numbers(version: str, count: int = 2) -> tuple[int, ...]:
    """Return the first numbers of a version: `"12.6.68"` is `(12, 6)`."""
    parts = version.split(".")[:count]
    return tuple(int(part) if _NUMBER.fullmatch(part) else 0 for part in parts)


def _driver(machine: Machine) -> Iterator[Finding]:
    if machine.gpus or machine.jetson:
        return
    if machine.driver:
        hidden = machine.visible_devices
        why = "" if hidden is None else f", and CUDA_VISIBLE_DEVICES is {hidden!r}"
        yield Finding(
            "gpu-hidden", Level.ERROR, f"driver {machine.driver} shows no CUDA device{why}."
        )
    elif machine.nvidia_cards:
        seen = f"{machine.nvidia_cards} NVIDIA card(s) on the PCI bus, and no NVIDIA driver."
        yield Finding("no-driver", Level.ERROR, seen)


def _ptx(machine: Machine) -> Iterator[Finding]:
    if not machine.driver_cuda:
        return
    nvrtc = machine.packages.get("nvidia-cuda-nvrtc", "")
    for name, version in (("toolkit", machine.toolkit), ("nvidia-cuda-nvrtc", nvrtc)):
        if version and numbers(version) > numbers(machine.driver_cuda):
            seen = f"the driver is of CUDA {machine.driver_cuda}, and {name} is {version}."
            yield Finding("driver-older-than-toolkit", Level.WARNING, seen)


def _tensorrt(machine: Machine) -> Iterator[Finding]:
    installed = machine.packages.get("tensorrt")
    system = machine.system_tensorrt
    if machine.jetson and system and not installed:
        if machine.venv == "plain":
            yield Finding(
                "venv-hides-tensorrt",
                Level.ERROR,
                f"JetPack's TensorRT {system} is installed, and this environment does not see it.",
                "python3 -m venv --system-site-packages ~/maskrt",
            )
        else:
            yield Finding(
                "no-tensorrt",
                Level.ERROR,
                f"TensorRT {system} is installed without its Python bindings.",
                "sudo apt install python3-libnvinfer",
            )
    elif machine.jetson and system and installed and numbers(installed) != numbers(system):
        yield Finding(
            "foreign-tensorrt",
            Level.ERROR,
            f"this Python has TensorRT {installed}, and JetPack has {system}.",
            "pip uninstall tensorrt",
        )
    elif machine.gpus and not installed and "tensorrt-rtx" not in machine.packages:
        command = "" if machine.jetson else "pip install 'maskrt[rtx]'"
        yield Finding(
            "no-tensorrt", Level.WARNING, "there is a GPU and no TensorRT for it.", command
        )


def _numpy(machine: Machine) -> Iterator[Finding]:
    numpy, tensorrt = machine.packages.get("numpy", ""), machine.packages.get("tensorrt", "")
    if numpy and tensorrt and numbers(numpy) >= (2, 4) and numbers(tensorrt) <= (11, 1):
        seen = f"numpy is {numpy} and TensorRT is {tensorrt}."
        yield Finding("numpy-too-new", Level.NOTE, seen, "pip install 'numpy<2.4'")
    if numpy and tensorrt and numbers(numpy) >= (2, 0) and (10, 0) <= numbers(tensorrt) < (10, 16):
        seen = f"numpy is {numpy} and TensorRT is {tensorrt}."
        yield Finding("numpy-misreads-fields", Level.WARNING, seen, "pip install 'numpy<2'")


def _pycuda(machine: Machine) -> Iterator[Finding]:
    if "pycuda" in machine.packages:
        other = "cuda-bindings" in machine.packages
        used = "uses cuda-bindings instead" if other else "runs engines by it"
        seen = f"pycuda {machine.packages['pycuda']} is installed; maskrt {used}."
        yield Finding("context-in-threads", Level.NOTE, seen)


def _jetpack(machine: Machine) -> Iterator[Finding]:
    jetson = machine.jetson
    if jetson and jetson.l4t and numbers(jetson.l4t) < (36, 4):
        name = f"JetPack {jetson.jetpack}" if jetson.jetpack else "an old JetPack"
        yield Finding("jetpack-too-old", Level.WARNING, f"L4T {jetson.l4t} is {name}.")


def _memory(machine: Machine) -> Iterator[Finding]:
    if machine.jetson and machine.memory_gb < _SMALL_MODULE_GB and machine.swap_gb < 4:
        yield Finding(
            "build-out-of-memory",
            Level.WARNING,
            f"{machine.memory_gb:.1f} GB of memory, {machine.memory_free_gb:.1f} free, and "
            f"{machine.swap_gb:.1f} GB of swap.",
            "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile "
            "&& sudo swapon /swapfile",
        )


def _power(machine: Machine) -> Iterator[Finding]:
    jetson = machine.jetson
    if jetson is None:
        return
    fastest = next((mode for mode in jetson.power_modes if "MAXN" in mode.upper()), "")
    if jetson.power_mode and fastest and "MAXN" not in jetson.power_mode.upper():
        seen = f"the power mode is {jetson.power_mode}, and {fastest} is the fastest."
        command = f"sudo nvpmodel -m {fastest.split()[0]}"
        yield Finding("slow-power-mode", Level.NOTE, seen, command)
    if 0 < jetson.gpu_mhz < jetson.gpu_max_mhz:
        seen = f"the GPU runs at {jetson.gpu_mhz} of {jetson.gpu_max_mhz} MHz now."
        yield Finding("slow-power-mode", Level.NOTE, seen, "sudo jetson_clocks")


_CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    _driver, _ptx, _tensorrt, _numpy, _pycuda, _jetpack, _memory, _power,
)  # fmt: skip
