"""Stand-ins for cuda-python and pycuda: device memory is host memory, and a stream a list.

They have the packages' names and signatures, so a misspelt call fails here, too.
"""

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


class Memory:
    """Blocks by address, and streams of functions."""

    def __init__(self) -> None:
        self.blocks: dict[int, Any] = {}
        self.queued: dict[int, list[Callable[[], None]]] = {}
        self.recorded: list[Callable[[], None]] | None = None
        self.graphs: set[int] = set()  # alive, executable or not
        self.last_error = 0  # of the CUDA runtime on this thread
        self.broken = False  # a capture that something has made fail

    def allocate(self, size: int) -> int:
        assert self.recorded is None
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def queue(self, work: Callable[[], None], stream: int) -> None:
        (self.queued[stream] if self.recorded is None else self.recorded).append(work)

    def begin(self) -> None:
        assert self.recorded is None
        self.recorded, self.broken = [], False

    def end(self) -> list[Callable[[], None]] | None:
        """End a capture; None where there is none, or it was broken."""
        recorded, self.recorded = self.recorded, None
        if recorded is None or self.broken:
            return None
        self.graphs.add(id(recorded))
        return recorded

    def made(self, graph: list[Callable[[], None]]) -> list[Callable[[], None]]:
        assert id(graph) in self.graphs
        executable = list(graph)
        self.graphs.add(id(executable))
        return executable

    def destroyed(self, graph: list[Callable[[], None]]) -> int:
        self.graphs.remove(id(graph))
        return 0

    def run(self, stream: int) -> None:
        for work in self.queued[stream]:
            work()
        self.queued[stream].clear()


def runtime_module(memory: Memory) -> SimpleNamespace:
    """Return `cuda.bindings.runtime`: every function returns (status, value...)."""
    opened = iter(range(70, 99))

    def create(flags: int) -> tuple[int, int]:
        assert flags == 1
        handle = next(opened)
        memory.queued[handle] = []
        return 0, handle

    def begin(stream: int, mode: str) -> tuple[int]:
        assert mode == "thread local"
        memory.begin()
        return (0,)

    def end(stream: int) -> tuple[int, Any]:
        graph = memory.end()
        memory.last_error = 901 if graph is None else 0
        return memory.last_error, graph

    def last_error() -> tuple[int]:
        found, memory.last_error = memory.last_error, 0
        return (found,)

    def copy(to: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        memory.queue(lambda: ctypes.memmove(to, source, size) and None, stream)
        return (0,)

    return SimpleNamespace(
        cudaStreamNonBlocking=1,
        cudaMemcpyKind=SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2),
        cudaStreamCaptureMode=SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread local"),
        cudaSetDevice=lambda device: (0,),
        cudaMalloc=lambda size: (0, memory.allocate(size)) if size < 2**30 else (2, None),
        cudaMallocHost=lambda size: (0, memory.allocate(size)),
        cudaFree=lambda address: (int(memory.blocks.pop(address, None) is None),),
        cudaFreeHost=lambda address: (int(memory.blocks.pop(address, None) is None),),
        cudaStreamCreateWithFlags=create,
        cudaStreamDestroy=lambda stream: (int(memory.queued.pop(stream, None) is None),),
        cudaStreamSynchronize=lambda stream: (memory.run(stream) or 0,),
        cudaMemcpyAsync=copy,
        cudaStreamBeginCapture=begin,
        cudaStreamEndCapture=end,
        cudaGetLastError=last_error,
        cudaGraphInstantiate=lambda graph, flags: (0, memory.made(graph)),
        cudaGraphDestroy=lambda graph: (memory.destroyed(graph),),
        cudaGraphLaunch=lambda graph, stream: (memory.queued[stream].extend(graph) or 0,),
        cudaGraphExecDestroy=lambda graph: (memory.destroyed(graph),),
    )


def driver_module(memory: Memory) -> SimpleNamespace:
    """Return `pycuda.driver`."""
    opened = iter(range(70, 99))
    stack: list[str] = []

    class Error(Exception):
        """As pycuda has it: an exception, and nothing of ours."""

    class Allocation(int):
        def free(self) -> None:
            del memory.blocks[int(self)]

    class Stream:
        def __init__(self, flags: int) -> None:
            assert flags == 1
            self.handle = next(opened)
            memory.queued[self.handle] = []

        def __del__(self) -> None:
            """Close it: in a thread without the context pycuda warns, and leaves it open."""
            if stack:
                del memory.queued[self.handle]

        def synchronize(self) -> None:
            assert stack
            memory.run(self.handle)

    def pagelocked_empty(size: int, dtype: Any) -> np.ndarray:
        address = memory.allocate(size)

        class Base(np.ndarray):
            def free(self) -> None:
                del memory.blocks[address]

        raw = (ctypes.c_uint8 * size).from_address(address)
        return np.frombuffer(memoryview(raw), np.uint8).view(Base)[:]

    def to_device(address: int, source: np.ndarray, stream: Stream) -> None:
        memory.queue(
            lambda: ctypes.memmove(address, source.ctypes.data, source.nbytes) and None,
            stream.handle,
        )

    def to_host(target: np.ndarray, address: int, stream: Stream) -> None:
        memory.queue(
            lambda: ctypes.memmove(target.ctypes.data, address, target.nbytes) and None,
            stream.handle,
        )

    def mem_alloc(size: int) -> Allocation:
        if size >= 2**30:
            raise Error("cuMemAlloc failed: out of memory")
        return Allocation(memory.allocate(size))

    context = SimpleNamespace(push=lambda: stack.append("context"))
    return SimpleNamespace(
        init=lambda: None,
        Device=lambda number: SimpleNamespace(retain_primary_context=lambda: context),
        Context=SimpleNamespace(pop=stack.pop),
        mem_alloc=mem_alloc,
        Error=Error,
        pagelocked_empty=pagelocked_empty,
        Stream=Stream,
        memcpy_htod_async=to_device,
        memcpy_dtoh_async=to_host,
    )


class DriverLibrary:
    """`libcuda.so.1` as far as graphs go: handles are numbers, and results are written to places.

    `Memory` has the graphs; `handles` says which number means which.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory, self.handles = memory, dict[int, Any]()

    def _handle(self, graph: Any, place: Any) -> int:
        self.handles[id(graph)] = graph
        place._obj.value = id(graph)
        return 0

    def cuStreamBeginCapture_v2(self, stream: ctypes.c_void_p, mode: int) -> int:  # noqa: N802
        assert stream.value in self.memory.queued
        assert mode == 1  # this thread's alone
        self.memory.begin()
        return 0

    def cuStreamEndCapture(self, stream: ctypes.c_void_p, place: Any) -> int:  # noqa: N802
        assert stream.value in self.memory.queued
        graph = self.memory.end()
        return 901 if graph is None else self._handle(graph, place)

    def cuGraphInstantiateWithFlags(self, place: Any, graph: Any, flags: Any) -> int:  # noqa: N802
        assert isinstance(flags, ctypes.c_ulonglong)
        return self._handle(self.memory.made(self.handles[graph.value]), place)

    def cuGraphDestroy(self, graph: ctypes.c_void_p) -> int:  # noqa: N802
        return self.memory.destroyed(self.handles.pop(graph.value or 0))

    cuGraphExecDestroy = cuGraphDestroy  # noqa: N815

    def cuGraphLaunch(self, graph: ctypes.c_void_p, stream: ctypes.c_void_p) -> int:  # noqa: N802
        self.memory.queued[stream.value or 0].extend(self.handles[graph.value or 0])
        return 0

    def cuGetErrorString(self, status: int, place: Any) -> int:  # noqa: N802
        place._obj.value = b"operation failed due to a previous error during capture"
        return 0
