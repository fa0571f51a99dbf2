"""A block of device memory, with page-locked host memory of the same size where the host sees it.

A buffer only grows. It is empty again after a `reserve` that failed, and holds nothing then. Things
lie in it one after the other, each aligned as `cudaMalloc` aligns.
"""

from collections.abc import Sequence

import numpy as np

from .contract import Cuda, Pinned

__all__ = ["Buffer", "offsets", "room_for"]

_ALIGNMENT = 256


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


def offsets(sizes: Sequence[int]) -> list[int]:
    """Return where things of these sizes start in a buffer."""
    starts, at = [], 0
    for size in sizes:
        starts.append(at)
        at += _aligned(size)
    return starts


def room_for(sizes: Sequence[int]) -> int:
    """Return how large a buffer is that holds things of these sizes."""
    return sum(map(_aligned, sizes))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
