"""How much of a GPU's memory an engine takes, asked of the CUDA driver.

The driver tells what is free on the whole device, so other programs that start or end meanwhile are
counted, too; on a Jetson the CPU shares that memory. What the CUDA context itself takes is not
counted: it is there before and after.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .cuda_device import open_driver

__all__ = ["device_memory"]


@contextmanager
def device_memory(device: int | None) -> Iterator[Callable[[], int | None]]:
    """Yield a function that returns the bytes taken on a GPU since the block began.

    Args:
        device: its number, as CUDA counts (`backends.gpu_of`); None for an engine that needs none.

    It returns None without a GPU, or where the driver does not tell.
    """
    driver = None if device is None else open_driver()
    context = None if driver is None or device is None else _retain(driver, device)
    if driver is None or device is None or context is None:
        yield lambda: None
        return
    try:
        before = _free_bytes(driver, context)

        def taken() -> int | None:
            now = _free_bytes(driver, context)
            return None if before is None or now is None else max(before - now, 0)

        yield taken
    finally:
        driver.cuDevicePrimaryCtxRelease(device)


def _retain(driver: ctypes.CDLL, device: int) -> ctypes.c_void_p | None:
    """Return the primary context, which CUDA's runtime, TensorRT and PyTorch share."""
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    if driver.cuDeviceGet(ctypes.byref(handle), device) != 0:
        return None
    failed = driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle)
    return None if failed else context


def _free_bytes(driver: ctypes.CDLL, context: ctypes.c_void_p) -> int | None:
    free, total, popped = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_void_p()
    if driver.cuCtxPushCurrent_v2(context) != 0:
        return None
    try:
        failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    finally:
        driver.cuCtxPopCurrent_v2(ctypes.byref(popped))
    return None if failed else free.value
