"""One suite for every backend that this machine runs: the contract of backends/base.py."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from maskrt.core import BundleError, InputSpec, UnsupportedTargetError, UsageError
from maskrt.runtime import Backend, NullBackend
from maskrt.runtime.backends.cpu import CpuBackend

SPEC = InputSpec(64, 64, batch=2)
SHAPES: dict[str, tuple[int, ...]] = {
    "boxes": (2, 4, 4),
    "scores": (2, 4),
    "labels": (2, 4),
    "masks": (2, 4, 28, 28),
    "count": (2,),
}


@pytest.fixture(params=["null", "cpu"])
def backend(request: pytest.FixtureRequest, make_engine: Callable[..., bytes]) -> Iterator[Backend]:
    if request.param == "null":
        opened: Backend = NullBackend(SHAPES)
    else:
        pytest.importorskip("onnxruntime")
        masks = np.ones((1, 28, 28), np.float32)
        opened = CpuBackend(make_engine(SPEC, [[4, 5, 20, 30]], [2], masks))
    with opened:
        yield opened


def test_outputs_have_the_contracts_names_shapes_and_types(backend: Backend) -> None:
    outputs = backend.run(np.zeros(SPEC.shape, np.uint8))
    assert {name: value.shape for name, value in outputs.items()} == SHAPES
    types = {name: value.dtype for name, value in outputs.items()}
    assert types.pop("labels") == types.pop("count") == np.int32
    assert set(types.values()) == {np.dtype(np.float32)}


def test_outputs_are_the_callers_to_keep(backend: Backend) -> None:
    images = np.zeros(SPEC.shape, np.uint8)
    first = backend.run(images)
    kept = {name: value.copy() for name, value in first.items()}
    backend.run(images + 200)
    for name, value in first.items():
        np.testing.assert_array_equal(value, kept[name])


def test_describe_is_json_and_closing_twice_is_harmless(backend: Backend) -> None:
    description: dict[str, Any] = backend.describe()
    assert isinstance(description["backend"], str)
    assert isinstance(description["version"], str)
    backend.close()
    backend.close()


def test_cpu_runs_the_engine_it_was_given(make_engine: Callable[..., bytes]) -> None:
    pytest.importorskip("onnxruntime")
    images = np.zeros(SPEC.shape, np.uint8)
    images[1] = 255
    with CpuBackend(make_engine(SPEC, [[4, 5, 20, 30], [1, 2, 3, 4]], [2, 1])) as backend:
        outputs = backend.run(images)
    assert "masks" not in outputs
    np.testing.assert_array_equal(outputs["count"], [2, 2])
    np.testing.assert_array_equal(outputs["boxes"][0, :2], [[4, 5, 20, 30], [1, 2, 3, 4]])
    np.testing.assert_allclose(outputs["scores"][:, 0], [0, 1], atol=1e-6)


def test_cpu_threads(make_engine: Callable[..., bytes]) -> None:
    pytest.importorskip("onnxruntime")
    engine = make_engine(SPEC, [], [])
    assert CpuBackend(engine, threads=2).describe()["threads"] == 2
    with pytest.raises(UsageError, match="at least 1"):
        CpuBackend(engine, threads=0)


def test_cpu_keeps_to_the_cores_it_may_use(
    make_engine: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1, 5, 9}, raising=False)
    assert CpuBackend(make_engine(SPEC, [], [])).describe()["threads"] == 3


@pytest.mark.parametrize("error", [RuntimeError("[ONNXRuntimeError] : 6 :\n no"), MemoryError()])
def test_cpu_says_what_onnx_runtime_cannot_do(
    make_engine: Callable[..., bytes], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")

    class Failing:
        def run(self, *_: object) -> None:
            raise error

    with CpuBackend(make_engine(InputSpec(32, 32), [[0, 0, 4, 4]], [1])) as backend:
        images = np.zeros((1, 32, 32, 3), np.uint8)
        with monkeypatch.context() as patched:
            patched.setattr(backend, "_session", Failing())
            with pytest.raises(UnsupportedTargetError, match=r"\[1, 32, 32, 3\].*memory") as caught:
                backend.run(images)
        assert "\n" not in str(caught.value)
        assert backend.run(images)["count"] == 1


def test_cpu_refuses_what_is_no_engine() -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(BundleError, match=r"does not load engine\.onnx.*build the engine again"):
        CpuBackend(b"not an engine")
