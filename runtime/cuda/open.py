"""Opening a device with whichever of the two packages is installed."""

import importlib.util

from ...core import MissingDependencyError
from .contract import Cuda

__all__ = ["open_cuda"]


def open_cuda(device: int = 0) -> Cuda:
    """Open a device with cuda-python, or else with pycuda.

    Raises:
        MissingDependencyError: neither is installed.
        UnsupportedTargetError: the device cannot be used.
    """
    if _is_installed("cuda.bindings"):
        from .runtime_api import RuntimeApiCuda

        return RuntimeApiCuda(device)
    if _is_installed("pycuda"):
        from .driver_api import DriverApiCuda

        return DriverApiCuda(device)
    raise MissingDependencyError(
        "cuda-python or pycuda is needed to run engines on a GPU and neither is installed: run "
        "pip install 'maskrt[rtx]', or pip install pycuda on a Jetson."
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
