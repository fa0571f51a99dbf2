"""The contract by pycuda, which is what Jetsons have. Has not run on real hardware.

pycuda puts a context onto a stack of the thread's, so `active` pushes the device's primary context,
which TensorRT uses, too, and pops it again. It has no graphs: those are the driver's
(`driver_graphs.py`); with one before CUDA 11.4 `can_capture` is false, and the same work is queued
piece by piece.

Source: https://documen.tician.de/pycuda/driver.html, and pycuda's src/wrapper/wrap_cudadrv.cpp.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from ...core import UnsupportedTargetError, require
from ...plugins.launch import LaunchPlan
from . import driver_graphs
from ._kernels import launch_plan, load_plan
from .contract import Cuda, Graph, Pinned, driver_calls, failure

__all__ = ["DriverApiCuda"]

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING


class DriverApiCuda(Cuda):
    """CUDA through pycuda."""

    def __init__(self, device: int = 0) -> None:
        """Use GPU `device`."""
        self._cuda = require("pycuda.driver", "run engines on a GPU")
        with self._to(f"use GPU {device}"):
            self._cuda.init()
            self._context = self._cuda.Device(device).retain_primary_context()
        # By address and by handle: pycuda gives back what nobody holds, in whatever thread.
        self._allocations: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        self.can_capture = driver_graphs.can_capture()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Put the primary context onto this thread's stack."""
        with self._to("use the GPU on this thread"):
            self._context.push()
        try:
            yield
        finally:
            self._cuda.Context.pop()

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes on the device."""
        with self._to(f"allocate {size} bytes"):
            memory = self._cuda.mem_alloc(size)
        self._allocations[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        """Release device memory."""
        with self._to("free memory"):
            self._allocations.pop(address).free()

    def pin(self, size: int) -> Pinned:
        """Return page-locked host memory."""
        with self._to(f"lock {size} bytes"):
            array = self._cuda.pagelocked_empty(size, np.uint8)
        return Pinned(array, array.base)

    def unpin(self, memory: Pinned) -> None:
        """Release it."""
        with self._to("free pinned memory"):
            memory.keep.free()

    def stream(self) -> int:
        """Open a stream that does not wait for the default one, and return its handle."""
        with self._to("open a stream"):
            made = self._cuda.Stream(_NON_BLOCKING)
        self._streams[int(made.handle)] = made
        return int(made.handle)

    def handle(self, stream: int) -> int:
        """Return the stream's handle."""
        return stream

    def close_stream(self, stream: int) -> None:
        """Close a stream, by holding it no longer."""
        del self._streams[stream]

    def upload(self, address: int, source: np.ndarray, stream: int) -> None:
        """Queue a copy to the device."""
        if source.nbytes:
            with self._to("copy"):
                self._cuda.memcpy_htod_async(address, source, self._streams[stream])

    def download(self, target: np.ndarray, address: int, stream: int) -> None:
        """Queue a copy from the device."""
        if target.nbytes:
            with self._to("copy"):
                self._cuda.memcpy_dtoh_async(target, address, self._streams[stream])

    def synchronise(self, stream: int) -> None:
        """Wait for the stream."""
        with self._to("run what was queued"):
            self._streams[stream].synchronize()

    def capture(self, work: Callable[[], None], stream: int) -> Graph:
        """Record what `work` queues."""
        return driver_graphs.capture(work, stream)

    def replay(self, graph: Graph, stream: int) -> None:
        """Queue all of a graph."""
        with driver_calls("launch a graph"):
            driver_graphs.replay(graph, stream)

    def drop_graph(self, graph: Graph) -> None:
        """Release a graph."""
        with driver_calls("free a graph"):
            driver_graphs.drop(graph)

    def prepare(self, plan: LaunchPlan) -> Any:
        """Compile and load the kernels of a plan."""
        return load_plan(plan)

    def launch(
        self, kernels: Any, plan: LaunchPlan, addresses: Mapping[str, int], stream: int
    ) -> None:
        """Queue every stage of a plan."""
        launch_plan(kernels, plan, addresses, stream)

    def _to(self, action: str) -> AbstractContextManager[None]:
        """Turn pycuda's errors inside the block into one sentence; see `contract.failure`."""
        return _said(self._cuda.Error, action)


@contextmanager
def _said(kind: type[Exception], action: str) -> Iterator[None]:
    try:
        yield
    except kind as error:
        raise UnsupportedTargetError(failure(action, error)) from error
