"""A block of device memory, with page-locked host memory of the same size where the host sees it.

A buffer only grows. It is empty again after a `reserve` that failed, and holds nothing then.
"""

import numpy as np

from .contract import Cuda, Pinned

__all__ = ["Buffer"]


class Buffer:
    """Device memory, with a pinned twin if the host sees it.

    Attributes:
        address: on the device, 0 while it is empty.
        size: in bytes.
    """

    def __init__(self, cuda: Cuda, *, pinned: bool) -> None:
        """Start empty."""
        self._cuda, self._with_host = cuda, pinned
        self.address, self.size = 0, 0
        self._host: Pinned | None = None

    def reserve(self, size: int) -> bool:
        """Make room for `size` bytes; whether the addresses changed."""
        if size <= self.size:
            return False
        self.release()
        host = self._cuda.pin(size) if self._with_host else None
        try:
            self.address = self._cuda.allocate(size)
        except BaseException:
            if host is not None:
                self._cuda.unpin(host)
            raise
        self._host, self.size = host, size
        return True

    def array(self, offset: int, size: int) -> np.ndarray:
        """Return a part of the pinned twin, uint8."""
        assert self._host is not None  # only asked of buffers that have one
        return self._host.array[offset : offset + size]

    def release(self) -> None:
        """Give everything back; releasing twice does nothing."""
        address, host = self.address, self._host
        self.address, self.size, self._host = 0, 0, None
        try:
            if address:
                self._cuda.free(address)
        finally:
            if host is not None:
                self._cuda.unpin(host)
