"""The TensorRT backend's calls, in order and with the right addresses, without a GPU.

TensorRT is played by classes of the same interface, whose engine writes a known result; memory,
copies and the stream by `HostCuda`, where nothing runs before it is waited for, and by stand-ins
for pycuda and cuda-python, one of them at a time.
"""

import contextlib
import ctypes
import gc
import sys
import weakref
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maskrt.core import BundleError, InputSpec, MissingDependencyError, UnsupportedTargetError
from maskrt.runtime.backends import tensorrt
from maskrt.runtime.cuda.driver_api import DriverApiCuda
from maskrt.runtime.cuda.host import HostCuda
from maskrt.runtime.cuda.open import open_cuda
from maskrt.runtime.cuda.runtime_api import RuntimeApiCuda

from ..cuda.stand_ins import Memory, driver_module, runtime_module

SHAPES = {"images": (1, 32, 32, 3), "count": (1,), "scores": (1, 4)}
TYPES = {"images": np.uint8, "count": np.int32, "scores": np.float32}
Views = dict[str, np.ndarray]
Queue = Callable[[Callable[[], None], int], None]


class FakeContext:
    """`IExecutionContext`, which queues on the stream that it is given."""

    def __init__(self, engine: "FakeEngine") -> None:
        self._engine = engine
        self._address: dict[str, int] = {}
        self._memory: tuple[int, int] | None = None

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        assert size >= self._engine.device_memory_size_v2
        self._memory = memory, size

    def is_stream_capturable(self, stream: int) -> bool:
        return self._engine.capturable(stream)

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert name in self._engine.about
        self._address[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert set(self._address) == set(self._engine.about)
        assert (self._memory is not None) == self._engine.user_allocation
        works = self._engine.works(stream)
        if works:
            self._engine.queue(self._run, stream)
        return works

    def _run(self) -> None:
        if self._memory is not None:
            view_at(self._memory[0], (self._memory[1],), np.dtype(np.uint8))[:] = 7
        about = self._engine.about
        self._engine.compute({n: view_at(at, *about[n]) for n, at in self._address.items()})


class FakeEngine:
    """`ICudaEngine`: the first score is the picture's mean, and `count` is 3."""

    device_memory_size_v2 = 1000

    def __init__(self, queue: Queue) -> None:
        self.queue, self.user_allocation, self.contexts = queue, False, 0
        self.works: Callable[[int], bool] = lambda stream: True
        self.capturable: Callable[[int], bool] = lambda stream: True
        self.about = {name: (SHAPES[name], np.dtype(TYPES[name])) for name in SHAPES}

    def compute(self, views: Views) -> None:
        views["scores"][0, 0] = views["images"].mean()
        views["count"][0] = 3

    @property
    def num_io_tensors(self) -> int:
        return len(self.about)

    def create_execution_context(self, strategy: str = "static") -> FakeContext | None:
        """Return nothing where the engine is to be given its memory, and nobody intends to."""
        assert self.user_allocation or strategy == "static"
        if (strategy == "user managed") != self.user_allocation:
            return None
        self.contexts += 1
        return FakeContext(self)

    def get_tensor_name(self, index: int) -> str:
        return list(self.about)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.about[name][0]

    def get_tensor_dtype(self, name: str) -> Any:
        return self.about[name][1]


def view_at(address: int, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    """Return what lies at an address of a stand-in, whose device memory is the machine's."""
    raw = (ctypes.c_uint8 * (int(np.prod(shape)) * kind.itemsize)).from_address(address)
    return np.frombuffer(memoryview(raw), kind).reshape(shape)


def tensorrt_module(made: FakeEngine) -> SimpleNamespace:
    """Return the package, which finds `made` in the plan `b"plan"`."""

    class Logger:
        ERROR = 1

        def __init__(self, severity: int) -> None:
            assert severity == self.ERROR

    class Runtime:
        def __init__(self, logger: Logger) -> None:
            assert isinstance(logger, Logger)

        def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
            return made if plan == b"plan" else None

    return SimpleNamespace(
        __version__="1.7.1", Logger=Logger, Runtime=Runtime, nptype=lambda kind: kind.type,
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user managed"),
    )  # fmt: skip


def stand_in(cuda: Any, made: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the backend find `made`, and `cuda` on every GPU; return the GPUs that it opens."""
    opened: list[int] = []
    monkeypatch.setattr(tensorrt, "require", lambda name, purpose: tensorrt_module(made))
    monkeypatch.setattr(
        "maskrt.runtime.cuda.open_cuda", lambda device: opened.append(device) or cuda
    )
    return opened


def on_host(cuda: HostCuda) -> Queue:
    return lambda work, stream: cuda.queue(work, stream, "engine")


@pytest.fixture
def cuda() -> HostCuda:
    return HostCuda()


@pytest.fixture
def engine(cuda: HostCuda, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    made = FakeEngine(on_host(cuda))
    stand_in(cuda, made, monkeypatch)
    return made


def test_a_call_copies_executes_copies_back_and_waits(
    cuda: HostCuda, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = stand_in(cuda, engine, monkeypatch)
    with tensorrt.TensorRTBackend(b"plan", device=1) as backend:
        assert opened == [1]
        cuda.calls.clear()
        outputs = backend.run(np.full(SHAPES["images"], 9, np.uint8))
        assert cuda.calls == ["upload", "engine", "download", "download", "synchronise"]
    cuda.close()
    assert set(outputs) == {"count", "scores"}
    assert outputs["scores"][0, 0] == 9
    np.testing.assert_array_equal(outputs["count"], [3])
    assert outputs["count"].dtype == np.int32


def test_outputs_outlive_the_next_call_and_the_engine(engine: FakeEngine) -> None:
    with tensorrt.TensorRTBackend(b"plan") as backend:
        first = backend.run(np.full(SHAPES["images"], 9, np.uint8))
        backend.run(np.full(SHAPES["images"], 50, np.uint8))
    assert first["scores"][0, 0] == 9


def test_frames_on_the_device_leave_the_backend_without_a_context_of_its_own(
    cuda: HostCuda, engine: FakeEngine
) -> None:
    """Each context is a set of activations, and `run` is rarely called beside frames."""
    with tensorrt.TensorRTBackend(b"plan", on_device=True) as backend:
        assert engine.contexts == 0
        with contextlib.closing(backend.open_frames(InputSpec(32, 32), 1)):  # type: ignore[type-var]
            assert engine.contexts == 1
        for _ in range(2):
            assert backend.run(np.full(SHAPES["images"], 9, np.uint8))["scores"][0, 0] == 9
        assert engine.contexts == 2
    cuda.close()


@pytest.mark.parametrize(("size", "one"), [(4 * 10**9, True), (8 * 10**9, False), (None, False)])
def test_a_small_device_has_memory_for_one_frame(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, size: int | None, one: bool
) -> None:
    monkeypatch.setattr(tensorrt, "total_memory", lambda device: size)
    with tensorrt.TensorRTBackend(b"plan", on_device=True) as backend:
        assert backend.one_frame is one


@pytest.mark.parametrize("dla", [None, 1])
def test_the_runtime_is_told_of_the_dla(engine: FakeEngine, dla: int | None) -> None:
    with tensorrt.TensorRTBackend(b"plan", dla=dla) as backend:
        assert getattr(backend._runtime, "DLA_core", None) == dla


def test_closing_frees_everything_once(cuda: HostCuda, engine: FakeEngine) -> None:
    backend = tensorrt.TensorRTBackend(b"plan")
    assert cuda.calls.count("allocate") == cuda.calls.count("pin") == len(SHAPES)
    backend.close()
    backend.close()
    cuda.close()
    assert cuda.calls.count("close_stream") == 1


@pytest.mark.parametrize("package", ["pycuda", "cuda.bindings"])
def test_either_package_alone_is_enough(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that the other is never imported: it is not there."""
    memory = Memory()
    made = FakeEngine(lambda work, stream: memory.queue(work, stream))
    monkeypatch.setattr(tensorrt, "require", lambda name, purpose: tensorrt_module(made))
    for name in [n for n in sys.modules if n.partition(".")[0] in ("cuda", "pycuda")]:
        monkeypatch.delitem(sys.modules, name)
    absent = "cuda" if package == "pycuda" else "pycuda"
    monkeypatch.setitem(sys.modules, absent, None)  # type: ignore[arg-type]  # not importable
    monkeypatch.setattr("maskrt.runtime.cuda.open._is_installed", lambda name: name == package)
    for name in (package.partition(".")[0], package):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    if package == "pycuda":
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver_module(memory))  # type: ignore[arg-type]
    else:
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime_module(memory))  # type: ignore[arg-type]
    with tensorrt.TensorRTBackend(b"plan") as backend:
        kind = DriverApiCuda if package == "pycuda" else RuntimeApiCuda
        assert isinstance(backend._cuda, kind)
        for value in (9, 50):
            outputs = backend.run(np.full(SHAPES["images"], value, np.uint8))
            assert outputs["scores"][0, 0] == value
            assert outputs["count"] == [3]
    assert not memory.blocks
    assert not memory.queued  # no stream is open


def test_neither_package_is_one_sentence(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskrt.runtime.cuda.open_cuda", open_cuda)
    monkeypatch.setattr("maskrt.runtime.cuda.open._is_installed", lambda name: False)
    with pytest.raises(MissingDependencyError, match="pip install pycuda on a Jetson"):
        tensorrt.TensorRTBackend(b"plan")


def test_all_engines_of_a_package_share_a_logger_that_outlives_them(
    cuda: HostCuda, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT keeps the first logger for all later runtimes, as `Runtime` does here."""
    module, kept = tensorrt_module(engine), list["weakref.ref[Any]"]()

    class Runtime(module.Runtime):  # type: ignore[name-defined, misc]
        def __init__(self, logger: Any) -> None:
            kept.append(weakref.ref(logger))
            assert kept[0]() is logger

    module.Runtime = Runtime
    monkeypatch.setattr(tensorrt, "require", lambda name, purpose: module)
    first = tensorrt.TensorRTBackend(b"plan")
    with tensorrt.TensorRTBackend(b"plan"):
        first.close()
        del first
        gc.collect()
        assert kept[0]() is not None
    assert len(kept) == 2
    cuda.close()


def test_a_foreign_plan_is_refused(cuda: HostCuda, engine: FakeEngine) -> None:
    with pytest.raises(BundleError, match=r"1\.7\.1 does not load engine\.trt"):
        tensorrt.TensorRTBackend(b"other")
    cuda.close()


def test_a_failed_execution_is_an_error(cuda: HostCuda, engine: FakeEngine) -> None:
    engine.works = lambda stream: False
    with (
        tensorrt.TensorRTBackend(b"plan") as backend,
        pytest.raises(UnsupportedTargetError, match="could not execute"),
    ):
        backend.run(np.zeros(SHAPES["images"], np.uint8))
    cuda.close()


@pytest.mark.parametrize("size", [0, 1000])
def test_an_engine_that_allocates_nothing_is_given_its_memory(
    cuda: HostCuda, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    engine.user_allocation = True
    monkeypatch.setattr(FakeEngine, "device_memory_size_v2", size)
    with pytest.raises(UnsupportedTargetError, match="could not prepare"):
        tensorrt.TensorRTBackend(b"plan")
    cuda.close()
    with tensorrt.TensorRTBackend(b"plan", user_allocation=True) as backend:
        assert cuda.calls.count("allocate") == len(SHAPES) + 1
        assert backend.run(np.full(SHAPES["images"], 9, np.uint8))["scores"][0, 0] == 9
    cuda.close()


def _frames(backend: tensorrt.TensorRTBackend, slots: int = 2) -> None:
    """Run frames of one size, and check every result."""
    with contextlib.closing(backend.open_frames(InputSpec(32, 32), slots)) as frames:  # type: ignore[type-var]
        for value in range(10, 18):
            frames.submit([np.full((32, 32, 3), value, np.uint8)])
            assert frames.collect().outputs["scores"][0, 0] == value


@pytest.mark.parametrize("user_allocation", [False, True])
def test_frames_of_one_size_become_a_graph(
    cuda: HostCuda, engine: FakeEngine, user_allocation: bool
) -> None:
    engine.user_allocation = user_allocation
    with tensorrt.TensorRTBackend(
        b"plan", on_device=True, user_allocation=user_allocation
    ) as backend:
        assert backend.describe()["cuda_graph"] is None
        _frames(backend)
        assert backend.describe()["cuda_graph"] is True
    cuda.close()
    assert (cuda.calls.count("capture"), cuda.calls.count("replay")) == (2, 6)


def test_an_engine_that_says_it_cannot_be_captured_is_queued_piece_by_piece(
    cuda: HostCuda, engine: FakeEngine
) -> None:
    engine.capturable = lambda stream: False
    with tensorrt.TensorRTBackend(b"plan", on_device=True) as backend:
        _frames(backend)
        about = backend.describe()
    cuda.close()
    assert about["cuda_graph"] is False
    assert "says that it cannot be captured" in about["no_cuda_graph_because"]
    assert not {"capture", "replay"} & set(cuda.calls)


def test_a_capture_that_fails_is_not_tried_again(cuda: HostCuda, engine: FakeEngine) -> None:
    engine.works = lambda stream: not cuda.is_capturing(stream)
    with tensorrt.TensorRTBackend(b"plan", on_device=True) as backend:
        _frames(backend)
        _frames(backend)  # another stream's slots
        about = backend.describe()
    cuda.close()
    assert about["cuda_graph"] is False
    assert "a capture failed: TensorRT-RTX could not execute" in about["no_cuda_graph_because"]
    assert cuda.calls.count("capture") == 1
    assert "replay" not in cuda.calls


@pytest.mark.rtx
def test_the_real_library_has_what_is_called() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    mine = {"compute"}
    for played, real in ((FakeEngine, trt.ICudaEngine), (FakeContext, trt.IExecutionContext)):
        assert {n for n in vars(played) if not n.startswith("_")} - mine - set(dir(real)) == set()
    assert hasattr(trt.ExecutionContextAllocationStrategy, "USER_MANAGED")
    assert trt.nptype(trt.DataType.UINT8) is np.uint8
