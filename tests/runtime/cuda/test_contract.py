"""Both adapters do what the contract says, on stand-ins for their packages; the host, for real.

The names that a stand-in has are compared with the real package's where that is installed.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskrt.core import MissingDependencyError, UnsupportedTargetError
from maskrt.core.cuda_library import open_cuda_library
from maskrt.plugins.adapters import cuda_driver
from maskrt.runtime.cuda import Cuda, driver_graphs, open_cuda, plans
from maskrt.runtime.cuda import _kernels as kernels
from maskrt.runtime.cuda.driver_api import DriverApiCuda
from maskrt.runtime.cuda.host import HostCuda
from maskrt.runtime.cuda.runtime_api import RuntimeApiCuda

from .stand_ins import DriverLibrary, Memory, driver_module, runtime_module

ROOT = Path(__file__).resolve().parents[3]
OLDER = ROOT / "build" / "cuda-bindings" / "12.8.0"


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture(params=["runtime_api", "driver_api", "host"])
def cuda(request: Any, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> Cuda:
    if request.param == "host":
        return HostCuda()
    make = {"runtime_api": runtime_module, "driver_api": driver_module}[request.param]
    module = f"maskrt.runtime.cuda.{request.param}.require"
    monkeypatch.setattr(module, lambda name, purpose: make(memory))
    library = DriverLibrary(memory)
    monkeypatch.setattr(cuda_driver, "_library", lambda: library)
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


def test_nothing_is_left(cuda: Cuda, memory: Memory) -> None:
    test_a_graph_replays_with_the_contents_of_now(cuda)
    assert not memory.blocks
    assert not memory.graphs
    assert not memory.queued
    if isinstance(cuda, HostCuda):
        cuda.close()


@pytest.mark.parametrize("breaks", [False, True], ids=["raises", "breaks the capture"])
def test_a_capture_that_fails_raises_its_own_error_and_leaves_no_graph(
    cuda: Cuda, memory: Memory, breaks: bool
) -> None:
    """An engine that fails also breaks the capture, which CUDA then refuses to end."""
    with cuda.active():
        stream = cuda.stream()

        def work() -> None:
            memory.broken = breaks
            raise KeyError("the engine's own words")

        with pytest.raises(KeyError, match="the engine's own words"):
            cuda.capture(work, stream)
        assert not memory.graphs
        assert memory.recorded is None
        assert memory.last_error == 0
        cuda.drop_graph(cuda.capture(lambda: None, stream))  # the stream is as before
        cuda.close_stream(stream)
    assert not memory.graphs


def test_a_capture_that_cannot_be_ended_is_an_error(cuda: Cuda, memory: Memory) -> None:
    if isinstance(cuda, HostCuda):
        pytest.skip("it refuses at once what would break a capture")
    with cuda.active():
        stream = cuda.stream()
        with pytest.raises((UnsupportedTargetError, RuntimeError), match=r"end a cap|EndCapture"):
            cuda.capture(lambda: setattr(memory, "broken", True), stream)
        assert not memory.graphs
        assert memory.last_error == 0
        cuda.close_stream(stream)


def test_an_old_driver_has_no_graphs(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskrt.runtime.cuda.driver_api.require", lambda *_: driver_module(memory))
    monkeypatch.setattr(cuda_driver, "_library", lambda: object())
    assert not DriverApiCuda().can_capture


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


def test_what_the_driver_says_is_one_sentence(
    cuda: Cuda, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(cuda, HostCuda):
        pytest.skip("it has no driver")

    def refuse(*_: Any) -> None:
        raise RuntimeError("cuLaunchKernel failed: CUDA_ERROR_LAUNCH_FAILED")

    plan = plans.to_picture(5, (40, 40), (20, 20))
    monkeypatch.setattr(kernels, "launch_stage", refuse)
    monkeypatch.setattr(kernels, "load_in_driver", refuse)
    loaded = {stage.entry: stage.entry for stage in plan.stages}
    calls = [lambda: cuda.prepare(plan), lambda: cuda.launch(loaded, plan, {}, cuda.stream())]
    if isinstance(cuda, DriverApiCuda):
        monkeypatch.setattr(driver_graphs, "replay", refuse)
        monkeypatch.setattr(driver_graphs, "drop", refuse)
        calls += [lambda: cuda.replay(None, 70), lambda: cuda.drop_graph(None)]
    with cuda.active():
        for call in calls:
            with pytest.raises(UnsupportedTargetError, match=r"CUDA could not .*LAUNCH_FAILED"):
                call()


def test_out_of_memory_is_one_sentence(cuda: Cuda) -> None:
    if isinstance(cuda, HostCuda):
        pytest.skip("its memory is the machine's")
    with (
        cuda.active(),
        pytest.raises(UnsupportedTargetError, match=r"allocate 2147483648 bytes \(.*nvidia-smi"),
    ):
        cuda.allocate(2**31)


def test_a_driver_older_than_cuda_python_is_said(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pip's newest cuda-bindings beside an older driver."""
    module = runtime_module(memory)
    module.cudaSetDevice = lambda device: (35,)
    monkeypatch.setattr("maskrt.runtime.cuda.runtime_api.require", lambda *_: module)
    with pytest.raises(UnsupportedTargetError, match=r"cuda-bindings==12\.\*"):
        RuntimeApiCuda().active().__enter__()


def test_without_a_driver_cuda_python_12_is_one_sentence(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its functions look for the driver's library themselves, and raise RuntimeError."""

    def fails(device: int) -> tuple[int]:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    module = runtime_module(memory)
    module.cudaSetDevice = fails
    monkeypatch.setattr("maskrt.runtime.cuda.runtime_api.require", lambda *_: module)
    with pytest.raises(UnsupportedTargetError, match=r"use GPU 0 \(Failed to dlopen .* driver"):
        RuntimeApiCuda().active().__enter__()


@pytest.mark.slow
@pytest.mark.skipif(open_cuda_library() is not None, reason="this machine has a CUDA driver")
def test_the_real_cuda_python_12_says_so_too() -> None:
    """Of the version that JetPack 6 takes."""
    if not OLDER.is_dir():
        pytest.skip(f"cuda-bindings 12.8 is not here: run `make {OLDER.relative_to(ROOT)}`")
    code = (
        "import cuda.bindings\n"
        "from maskrt.core import UnsupportedTargetError\n"
        "from maskrt.runtime.cuda.runtime_api import RuntimeApiCuda\n"
        "try:\n    RuntimeApiCuda().active().__enter__()\n"
        "except UnsupportedTargetError as error:\n    print(cuda.bindings.__version__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(OLDER)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("12.8.0 CUDA could not use GPU 0 ("), done.stderr
    assert done.stdout.count("\n") == 1


def test_cuda_python_has_every_name_that_is_called(memory: Memory) -> None:
    real = pytest.importorskip("cuda.bindings.runtime")
    assert [name for name in vars(runtime_module(memory)) if not hasattr(real, name)] == []
    assert hasattr(real.cudaStreamCaptureMode, "cudaStreamCaptureModeThreadLocal")


def test_whichever_package_is_there_is_taken(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: set[str] = set()
    monkeypatch.setattr("maskrt.runtime.cuda.open._is_installed", lambda name: name in there)
    with pytest.raises(MissingDependencyError, match="cuda-python or pycuda"):
        open_cuda()
    monkeypatch.setattr("maskrt.runtime.cuda.driver_api.require", lambda *_: driver_module(memory))
    there.add("pycuda")
    assert isinstance(open_cuda(), DriverApiCuda)
    there.add("cuda.bindings")
    pytest.importorskip("cuda.bindings.runtime")
    assert isinstance(open_cuda(), RuntimeApiCuda)
