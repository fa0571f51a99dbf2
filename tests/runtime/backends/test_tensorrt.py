"""The TensorRT-RTX backend's calls, in order and with the right addresses, against stand-ins.

No machine without a GPU can execute the engine, so both libraries are played by classes of the same
interface: "device memory" is host memory, a copy is a copy, and the engine writes a known result.
"""

import ctypes
import enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maskrt.core import BundleError, UnsupportedTargetError
from maskrt.runtime.backends import tensorrt

SHAPES = {"images": (1, 32, 32, 3), "count": (1,), "scores": (1, 4)}
TYPES = {"images": np.uint8, "count": np.int32, "scores": np.float32}


class Status(enum.IntEnum):
    cudaSuccess = 0  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815


class FakeCuda:
    """`cuda.bindings.runtime` on host memory."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.calls: list[str] = []
        self.allocations_left = 100

    def cudaSetDevice(self, device: int) -> tuple[Status]:  # noqa: N802
        self.calls.append(f"device {device}")
        return (Status.cudaSuccess,)

    def cudaMalloc(self, size: int) -> tuple[Status, int | None]:  # noqa: N802
        self.allocations_left -= 1
        if self.allocations_left < 0:
            return (Status.cudaErrorMemoryAllocation, None)
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return (Status.cudaSuccess, ctypes.addressof(block))

    cudaMallocHost = cudaMalloc  # noqa: N815

    def cudaFree(self, address: int) -> tuple[Status]:  # noqa: N802
        del self.memory[address]
        return (Status.cudaSuccess,)

    cudaFreeHost = cudaFree  # noqa: N815

    def cudaStreamCreate(self) -> tuple[Status, int]:  # noqa: N802
        self.calls.append("stream")
        return (Status.cudaSuccess, 77)

    def cudaStreamDestroy(self, stream: int) -> tuple[Status]:  # noqa: N802
        self.calls.append("destroy")
        return (Status.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Status]:  # noqa: N802
        self.calls.append("wait")
        return (Status.cudaSuccess,)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> Any:  # noqa: N802
        assert stream == 77
        assert to in self.memory
        assert source in self.memory
        self.calls.append("in" if kind == 1 else "out")
        ctypes.memmove(to, source, size)
        return (Status.cudaSuccess,)


class FakeEngine:
    """Engine and context: the first score is the picture's mean, and `count` is 3."""

    num_io_tensors = len(SHAPES)

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.address: dict[str, int] = {}
        self.works = True

    def create_execution_context(self) -> "FakeEngine":
        return self

    def get_tensor_name(self, index: int) -> str:
        return list(SHAPES)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return SHAPES[name]

    def get_tensor_dtype(self, name: str) -> Any:
        return TYPES[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.address[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.calls.append("execute")
        self.view("scores")[0, 0] = self.view("images").mean()
        self.view("count")[0] = 3
        return self.works

    def view(self, name: str) -> np.ndarray:
        return view_at(self.address[name], SHAPES[name], np.dtype(TYPES[name]))


def view_at(address: int, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    """Return what lies at an address of `FakeCuda`'s."""
    raw = (ctypes.c_uint8 * (int(np.prod(shape)) * kind.itemsize)).from_address(address)
    return np.frombuffer(memoryview(raw), kind).reshape(shape)


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def engine(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    made = FakeEngine(cuda.calls)
    stand_in(cuda, made, monkeypatch)
    return made


def stand_in(cuda: FakeCuda, made: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the backend find `made` in the plan `b"plan"`, and `cuda` in cuda-python's place."""

    class Logger:
        ERROR = 1

        def __init__(self, severity: int) -> None:
            assert severity == self.ERROR

    class Runtime:
        def __init__(self, logger: Logger) -> None:
            assert isinstance(logger, Logger)

        def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
            return made if plan == b"plan" else None

    trt = SimpleNamespace(
        __version__="1.7.1", Logger=Logger, Runtime=Runtime, nptype=lambda kind: kind
    )
    modules = {"tensorrt_rtx": trt, "cuda.bindings.runtime": cuda}
    monkeypatch.setattr(tensorrt, "require", lambda name, purpose: modules[name])


def test_a_call_copies_executes_copies_back_and_waits(cuda: FakeCuda, engine: FakeEngine) -> None:
    with tensorrt.TensorRTBackend(b"plan", device=1) as backend:
        assert cuda.calls == ["device 1", "stream"]
        cuda.calls.clear()
        outputs = backend.run(np.full(SHAPES["images"], 9, np.uint8))
        assert cuda.calls == ["device 1", "in", "execute", "out", "out", "wait"]
    assert set(outputs) == {"count", "scores"}
    np.testing.assert_array_equal(outputs["scores"], [[9, 0, 0, 0]])
    np.testing.assert_array_equal(outputs["count"], [3])
    assert outputs["count"].dtype == np.int32


def test_outputs_outlive_the_next_call_and_the_engine(engine: FakeEngine) -> None:
    with tensorrt.TensorRTBackend(b"plan") as backend:
        first = backend.run(np.full(SHAPES["images"], 9, np.uint8))
        backend.run(np.full(SHAPES["images"], 50, np.uint8))
    assert first["scores"][0, 0] == 9


def test_closing_frees_everything_once(cuda: FakeCuda, engine: FakeEngine) -> None:
    backend = tensorrt.TensorRTBackend(b"plan")
    assert len(cuda.memory) == 2 * len(SHAPES)
    backend.close()
    backend.close()
    assert not cuda.memory
    assert cuda.calls.count("destroy") == 1


@pytest.mark.parametrize("allocations", range(6))
def test_out_of_memory_is_one_sentence_and_leaks_nothing(
    cuda: FakeCuda, engine: FakeEngine, allocations: int
) -> None:
    cuda.allocations_left = allocations
    with pytest.raises(UnsupportedTargetError, match=r"cudaErrorMemoryAllocation.*nvidia-smi"):
        tensorrt.TensorRTBackend(b"plan")
    assert not cuda.memory


def test_a_foreign_plan_is_refused(cuda: FakeCuda, engine: FakeEngine) -> None:
    with pytest.raises(BundleError, match=r"1\.7\.1 does not load engine\.trt"):
        tensorrt.TensorRTBackend(b"other")
    assert not cuda.memory


def test_a_failed_execution_is_an_error(engine: FakeEngine) -> None:
    engine.works = False
    with (
        tensorrt.TensorRTBackend(b"plan") as backend,
        pytest.raises(UnsupportedTargetError, match="could not execute"),
    ):
        backend.run(np.zeros(SHAPES["images"], np.uint8))


@pytest.mark.rtx
def test_the_real_libraries_have_what_is_called() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    cuda = pytest.importorskip("cuda.bindings.runtime")
    called = [name for name in vars(FakeCuda) if name.startswith("cuda")]
    assert [name for name in called if not hasattr(cuda, name)] == []
    real = {*dir(trt.ICudaEngine), *dir(trt.IExecutionContext)}
    played = {name for name in vars(FakeEngine) if not name.startswith("__")} - {"view"}
    assert played - real == set()
    assert trt.nptype(trt.DataType.UINT8) is np.uint8
