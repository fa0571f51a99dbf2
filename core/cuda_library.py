"""The CUDA driver's library, opened here alone: every NVIDIA driver brings it, no CUDA package."""

import ctypes
import sys

__all__ = ["NAME", "open_cuda_library"]

NAME = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def open_cuda_library() -> ctypes.CDLL | None:
    """Return the library, nothing of it initialised; None on a machine without the driver."""
    try:
        return ctypes.CDLL(NAME)
    except OSError:
        return None
