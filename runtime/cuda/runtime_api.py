"""The contract by cuda-python's `cuda.bindings.runtime`. Has not run on real hardware.

Its functions return `(status, value, ...)`. The device's current context is the one of
`cudaSetDevice`, the primary one, which all of CUDA in the process shares.
"""

import ctypes
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...core import UnsupportedTargetError, require
from ...core.jetpack import is_jetson
from ...plugins.launch import LaunchPlan
from ._kernels import launch_plan, load_plan
from .contract import Cuda, Graph, Pinned, failure

__all__ = ["RuntimeApiCuda", "checked"]

_INSUFFICIENT_DRIVER = 35  # cudaErrorInsufficientDriver


def checked(result: tuple[Any, ...], action: str) -> Any:
    """Return the value of a CUDA call, or None where it has none.

    Args:
        result: what a function of `cuda.bindings.runtime` returned.
        action: the end of "CUDA could not ...".

    Raises:
        UnsupportedTargetError: the call failed.
    """
    status, *values = result
    if int(status) == _INSUFFICIENT_DRIVER:
        raise UnsupportedTargetError(
            f"CUDA could not {action}, because NVIDIA's driver is absent or older than the CUDA of "
            f"cuda-bindings {_version()}: install those of the driver's CUDA, such as with pip "
            f"install '{_bindings()}', or a newer driver."
        )
    if int(status) != 0:
        raise UnsupportedTargetError(failure(action, getattr(status, "name", status)))
    return values[0] if values else None


def _bindings() -> str:
    """Return the older bindings that pip is to install; those of JetPack 6 are not the newest."""
    return "cuda-bindings==12.8.*" if is_jetson() else "cuda-bindings==12.*"


def _version() -> str:
    try:
        return importlib.metadata.version("cuda-bindings")
    except importlib.metadata.PackageNotFoundError:
        return ""


class RuntimeApiCuda(Cuda):
    """CUDA through its runtime, whose current context is the device's primary one."""

    def __init__(self, device: int = 0) -> None:
        """Use GPU `device`."""
        self._cuda = require("cuda.bindings.runtime", "run engines on a GPU")
        self._device = device

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the device current; the runtime has nothing to undo."""
        try:
            chosen = self._cuda.cudaSetDevice(self._device)
        except RuntimeError as error:  # 12.x, where it does not find the driver's library
            raise UnsupportedTargetError(
                f"CUDA could not use GPU {self._device} ({error}): install NVIDIA's driver (in a "
                "container, start it with the GPU), or run on target cpu."
            ) from None
        checked(chosen, f"use GPU {self._device}")
        yield

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes on the device."""
        return int(checked(self._cuda.cudaMalloc(size), f"allocate {size} bytes"))

    def free(self, address: int) -> None:
        """Release device memory."""
        checked(self._cuda.cudaFree(address), "free memory")

    def pin(self, size: int) -> Pinned:
        """Return page-locked host memory."""
        address = int(checked(self._cuda.cudaMallocHost(size), f"lock {size} bytes"))
        raw = (ctypes.c_uint8 * size).from_address(address)
        return Pinned(np.frombuffer(memoryview(raw), np.uint8), address)

    def unpin(self, memory: Pinned) -> None:
        """Release it."""
        checked(self._cuda.cudaFreeHost(memory.keep), "free pinned memory")

    def stream(self) -> Any:
        """Open a stream that does not wait for the default one."""
        flags = self._cuda.cudaStreamNonBlocking
        return checked(self._cuda.cudaStreamCreateWithFlags(flags), "open a stream")

    def handle(self, stream: Any) -> int:
        """Return the stream's handle."""
        return int(stream)

    def close_stream(self, stream: Any) -> None:
        """Close a stream."""
        checked(self._cuda.cudaStreamDestroy(stream), "close a stream")

    def upload(self, address: int, source: np.ndarray, stream: Any) -> None:
        """Queue a copy to the device."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(address, source.ctypes.data, source.nbytes, kind, stream)

    def download(self, target: np.ndarray, address: int, stream: Any) -> None:
        """Queue a copy from the device."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(target.ctypes.data, address, target.nbytes, kind, stream)

    def _copy(self, target: int, source: int, size: int, kind: Any, stream: Any) -> None:
        if size:
            checked(self._cuda.cudaMemcpyAsync(target, source, size, kind, stream), "copy")

    def synchronise(self, stream: Any) -> None:
        """Wait for the stream."""
        checked(self._cuda.cudaStreamSynchronize(stream), "run what was queued")

    def capture(self, work: Callable[[], None], stream: Any) -> Graph:
        """Record what `work` queues."""
        cuda = self._cuda
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(cuda.cudaStreamBeginCapture(stream, mode), "begin a capture")
        try:
            work()
            graph = checked(cuda.cudaStreamEndCapture(stream), "end a capture")
        except BaseException:
            self._abandon(stream)
            raise
        try:
            return checked(cuda.cudaGraphInstantiate(graph, 0), "make a graph")
        finally:
            checked(cuda.cudaGraphDestroy(graph), "free a graph")

    def _abandon(self, stream: Any) -> None:
        """End a capture that failed, whatever CUDA says to that, and leave no error behind."""
        status, graph = self._cuda.cudaStreamEndCapture(stream)
        if int(status) == 0:
            self._cuda.cudaGraphDestroy(graph)
        self._cuda.cudaGetLastError()  # or TensorRT's next call finds this one's error

    def replay(self, graph: Graph, stream: Any) -> None:
        """Queue all of a graph."""
        checked(self._cuda.cudaGraphLaunch(graph, stream), "launch a graph")

    def drop_graph(self, graph: Graph) -> None:
        """Release a graph."""
        checked(self._cuda.cudaGraphExecDestroy(graph), "free a graph")

    def prepare(self, plan: LaunchPlan) -> Any:
        """Compile and load the kernels of a plan."""
        return load_plan(plan)

    def launch(
        self, kernels: Any, plan: LaunchPlan, addresses: Mapping[str, int], stream: Any
    ) -> None:
        """Queue every stage of a plan."""
        launch_plan(kernels, plan, addresses, int(stream))
