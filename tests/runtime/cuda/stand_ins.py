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

    def allocate(self, size: int) -> int:
        assert self.recorded is None
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def queue(self, work: Callable[[], None], stream: int) -> None:
        (self.queued[stream] if self.recorded is None else self.recorded).append(work)

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
        memory.recorded = []
        return (0,)

    def end(stream: int) -> tuple[int, Any]:
        graph, memory.recorded = memory.recorded, None
        return 0, graph

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
        cudaGraphInstantiate=lambda graph, flags: (0, list(graph)),
        cudaGraphDestroy=lambda graph: (0,),
        cudaGraphLaunch=lambda graph, stream: (memory.queued[stream].extend(graph) or 0,),
        cudaGraphExecDestroy=lambda graph: (0,),
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

        def synchronize(self) -> None:
            assert stack
            memory.run(self.handle)

        def begin_capture(self) -> None:
            memory.recorded = []

        def end_capture(self) -> Any:
            recorded, memory.recorded = memory.recorded, None

            def launch(stream: Stream) -> None:
                memory.queued[stream.handle].extend(recorded or ())

            return SimpleNamespace(instantiate=lambda: SimpleNamespace(launch=launch))

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
