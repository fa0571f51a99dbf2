"""Both adapters do what the contract says, on stand-ins for their packages; the host, for real.

A stand-in's device memory is host memory, and a stream a list, as in `HostCuda`; it has the real
package's names, so a misspelt call fails here, and the names are compared with the real package's.
"""

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maskrt.core import MissingDependencyError, UnsupportedTargetError
from maskrt.runtime.cuda import Cuda, contract, open_cuda, plans
from maskrt.runtime.cuda import _kernels as kernels
from maskrt.runtime.cuda.driver_api import DriverApiCuda
from maskrt.runtime.cuda.host import HostCuda
from maskrt.runtime.cuda.runtime_api import RuntimeApiCuda


class _Memory:
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


def runtime_module(memory: _Memory) -> SimpleNamespace:
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


def driver_module(memory: _Memory) -> SimpleNamespace:
    """Return `pycuda.driver`."""
    opened = iter(range(70, 99))
    stack: list[str] = []

    class Allocation(int):
        def free(self) -> None:
            del memory.blocks[int(self)]

    class Stream:
        def __init__(self) -> None:
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

    context = SimpleNamespace(push=lambda: stack.append("context"))
    return SimpleNamespace(
        init=lambda: None,
        Device=lambda number: SimpleNamespace(retain_primary_context=lambda: context),
        Context=SimpleNamespace(pop=stack.pop),
        mem_alloc=lambda size: Allocation(memory.allocate(size)),
        pagelocked_empty=pagelocked_empty,
        Stream=Stream,
        memcpy_htod_async=to_device,
        memcpy_dtoh_async=to_host,
    )


@pytest.fixture
def memory() -> _Memory:
    return _Memory()


@pytest.fixture(params=["runtime_api", "driver_api", "host"])
def cuda(request: Any, memory: _Memory, monkeypatch: pytest.MonkeyPatch) -> Cuda:
    if request.param == "host":
        return HostCuda()
    make = {"runtime_api": runtime_module, "driver_api": driver_module}[request.param]
    module = f"maskrt.runtime.cuda.{request.param}.require"
    monkeypatch.setattr(module, lambda name, purpose: make(memory))
    return RuntimeApiCuda() if request.param == "runtime_api" else DriverApiCuda()


def test_what_is_queued_runs_in_order_and_is_waited_for(cuda: Cuda) -> None:
    with cuda.active():
        stream, address = cuda.stream(), cuda.allocate(100)
        there, back = cuda.pin(100), cuda.pin(100)
        there.array[:] = np.arange(100)
        back.array[:] = 0
        cuda.upload(address + 10, there.array[:50], stream)
        cuda.download(back.array[20:40], address + 15, stream)
        cuda.synchronise(stream)
        np.testing.assert_array_equal(back.array[20:40], np.arange(5, 25))
        assert not back.array[:20].any()
        assert not back.array[40:].any()
        assert cuda.handle(stream) > 0
        for pinned in (there, back):
            cuda.unpin(pinned)
        cuda.free(address)
        cuda.close_stream(stream)


def test_a_graph_replays_with_the_contents_of_now(cuda: Cuda) -> None:
    assert cuda.can_capture
    with cuda.active():
        stream, address = cuda.stream(), cuda.allocate(8)
        there, back = cuda.pin(8), cuda.pin(8)

        def work() -> None:
            cuda.upload(address, there.array, stream)
            cuda.download(back.array, address, stream)

        there.array[:], back.array[:] = 1, 0
        graph = cuda.capture(work, stream)
        cuda.synchronise(stream)
        assert not back.array.any()  # recorded, not run
        for value in (3, 4):
            there.array[:] = value
            cuda.replay(graph, stream)
            cuda.synchronise(stream)
            assert (back.array == value).all()
        cuda.drop_graph(graph)
        cuda.unpin(there)
        cuda.unpin(back)
        cuda.free(address)
        cuda.close_stream(stream)


def test_nothing_is_left(cuda: Cuda, memory: _Memory) -> None:
    test_a_graph_replays_with_the_contents_of_now(cuda)
    assert not memory.blocks
    if isinstance(cuda, HostCuda):
        cuda.close()


def test_kernels_go_to_the_streams_handle(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(cuda, HostCuda):
        pytest.skip("its kernels run for real in test_frame.py")
    launched: list[Any] = []
    for module in ("runtime_api", "driver_api"):
        load = lambda plan: {stage.entry: stage.entry for stage in plan.stages}  # noqa: E731
        monkeypatch.setattr(f"maskrt.runtime.cuda.{module}.load_plan", load)
    monkeypatch.setattr(kernels, "launch_stage", lambda *given: launched.append(given))
    plan = plans.to_picture(5, (40, 40), (20, 20))
    with cuda.active():
        stream = cuda.stream()
        cuda.launch(cuda.prepare(plan), plan, {"boxes": 1, "mapped": 2}, stream)
        assert launched == [
            ("to_picture", plan.stages[0], {"boxes": 1, "mapped": 2}, cuda.handle(stream))
        ]


def test_out_of_memory_is_one_sentence(memory: _Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "maskrt.runtime.cuda.runtime_api.require", lambda *_: runtime_module(memory)
    )
    with pytest.raises(UnsupportedTargetError, match="could not allocate 2147483648 bytes"):
        RuntimeApiCuda().allocate(2**31)


def test_cuda_python_has_every_name_that_is_called(memory: _Memory) -> None:
    real = pytest.importorskip("cuda.bindings.runtime")
    assert [name for name in vars(runtime_module(memory)) if not hasattr(real, name)] == []
    assert hasattr(real.cudaStreamCaptureMode, "cudaStreamCaptureModeThreadLocal")


def test_whichever_package_is_there_is_taken(
    memory: _Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: set[str] = set()
    monkeypatch.setattr(contract, "_is_installed", lambda name: name in there)
    with pytest.raises(MissingDependencyError, match="cuda-python or pycuda"):
        open_cuda()
    monkeypatch.setattr("maskrt.runtime.cuda.driver_api.require", lambda *_: driver_module(memory))
    there.add("pycuda")
    assert isinstance(open_cuda(), DriverApiCuda)
    there.add("cuda.bindings")
    pytest.importorskip("cuda.bindings.runtime")
    assert isinstance(open_cuda(), RuntimeApiCuda)
