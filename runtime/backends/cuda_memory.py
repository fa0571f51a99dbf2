"""Page-locked host memory paired with device memory: what moves one tensor to or from a GPU.

Everything goes through `cuda.bindings.runtime`, NVIDIA's own bindings, whose functions return
`(status, value, ...)`. The device's current context is the one of `cudaSetDevice`, shared by all of
CUDA in the process, so nothing breaks when a session is used from another thread.
"""

import ctypes
import math
from typing import Any

import numpy as np

from ...core import UnsupportedTargetError

__all__ = ["DeviceTensor", "checked"]


def checked(result: tuple[Any, ...], action: str) -> Any:
    """Return the value of a CUDA call, or None where it has none.

    Args:
        result: what a function of `cuda.bindings.runtime` returned.
        action: the end of "CUDA could not ...".

    Raises:
        UnsupportedTargetError: the call failed.
    """
    status, *values = result
    if int(status) != 0:
        reason = getattr(status, "name", status)
        raise UnsupportedTargetError(
            f"CUDA could not {action} ({reason}): check the GPU's free memory and driver with "
            "nvidia-smi, or run on target cpu."
        )
    return values[0] if values else None


class DeviceTensor:
    """One input or output of an engine: a host array and its twin on the device.

    Attributes:
        host: the array in page-locked memory.
        address: the device address.
    """

    def __init__(self, cuda: Any, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Allocate both sides.

        Args:
            cuda: the module `cuda.bindings.runtime`.
            name: for messages.
            shape: all sizes positive.
            dtype: of the elements.
        """
        self._cuda, self._name = cuda, name
        self._bytes = math.prod(shape) * np.dtype(dtype).itemsize
        size = f"{self._bytes} bytes for {name}"
        self._host_address = int(checked(cuda.cudaMallocHost(self._bytes), f"lock {size}"))
        try:
            self.address = int(checked(cuda.cudaMalloc(self._bytes), f"allocate {size}"))
        except UnsupportedTargetError:
            cuda.cudaFreeHost(self._host_address)
            raise
        raw = (ctypes.c_uint8 * self._bytes).from_address(self._host_address)
        self.host = np.frombuffer(memoryview(raw), dtype).reshape(shape)

    def to_device(self, stream: Any) -> None:
        """Queue the copy from the host to the device."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(self.address, self._host_address, kind, stream)

    def to_host(self, stream: Any) -> None:
        """Queue the copy from the device to the host."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(self._host_address, self.address, kind, stream)

    def free(self) -> None:
        """Release both sides; the host array must not be used afterwards."""
        checked(self._cuda.cudaFree(self.address), f"free {self._name}")
        checked(self._cuda.cudaFreeHost(self._host_address), f"free {self._name}")

    def _copy(self, destination: int, source: int, kind: Any, stream: Any) -> None:
        result = self._cuda.cudaMemcpyAsync(destination, source, self._bytes, kind, stream)
        checked(result, f"copy {self._name}")
