"""Which GPUs this machine has, asked of the CUDA driver itself: no CUDA package is needed."""

import ctypes
from collections.abc import Callable
from typing import TypeVar

from ..core import Target
from ..core.cuda_library import open_cuda_library

__all__ = ["can_run", "compute_capabilities", "gpu_names", "open_driver", "total_memory"]

_Fact = TypeVar("_Fact")

_NAME_BYTES = 256

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR in cuda.h


def can_run(target: Target) -> bool:
    """Whether this machine has what an engine for `target` runs on; any machine has a CPU."""
    if target.backend == "onnxruntime":
        return True
    return any(capability in target.runs_on for capability in compute_capabilities())


def compute_capabilities() -> tuple[int, ...]:
    """Return the compute capability of each GPU (89 means 8.9); empty without driver or GPU."""
    return _of_each_gpu(_capability)


def gpu_names() -> tuple[str, ...]:
    """Return the name of each GPU, such as `"Orin"`; empty without driver or GPU."""
    return _of_each_gpu(_name)


def total_memory(device: int) -> int | None:
    """Return the bytes of memory of a GPU (a Jetson's is the whole module's); None without it."""
    driver = open_driver()
    handle, size = ctypes.c_int(), ctypes.c_size_t()
    if driver is None or driver.cuDeviceGet(ctypes.byref(handle), device) != 0:
        return None
    return None if driver.cuDeviceTotalMem_v2(ctypes.byref(size), handle) else size.value


def open_driver() -> ctypes.CDLL | None:
    """Return the CUDA driver, initialised; None without one, or without a GPU that it can use."""
    driver = open_cuda_library()
    return driver if driver is not None and driver.cuInit(0) == 0 else None


def _of_each_gpu(read: Callable[[ctypes.CDLL, int], _Fact]) -> tuple[_Fact, ...]:
    driver = open_driver()
    if driver is None:
        return ()
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    return tuple(read(driver, index) for index in range(count.value))


def _capability(driver: ctypes.CDLL, index: int) -> int:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return 10 * major.value + minor.value


def _name(driver: ctypes.CDLL, index: int) -> str:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, _NAME_BYTES, device)
    return name.value.decode("utf-8", "replace")
