"""Launches through the CUDA driver: what it is called with, and what its errors become."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

from maskrt.core import MissingDependencyError, UnsupportedTargetError
from maskrt.plugins.adapters import cuda_driver
from maskrt.plugins.adapters.cuda_driver import (
    Module,
    compute_capability,
    current_device,
    launch,
    launch_stage,
    load_plan,
)
from maskrt.plugins.launch import LaunchPlan, Stage, Tensor

from .fake_cuda import CONTEXT, fake_cuda

SOURCE = """
extern "C" __global__ void blend(const float* a, const float* b, int n, int k, float* out) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a[i] - k * b[i];
}
"""


@pytest.fixture
def plan(tmp_path: Path) -> LaunchPlan:
    source = tmp_path / "kernel.cu"
    source.write_text(SOURCE)
    tensors = {name: Tensor((100,), "float32") for name in ("a", "b", "out")}
    stage = Stage("blend", ("a", "b"), (100, 7), ("out",), (4, 1, 1), 32)
    return LaunchPlan(source, {}, ("a", "b"), ("out",), tensors, (stage,))


def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {name: rng.normal(size=100).astype(np.float32) for name in ("a", "b")}
    return {**found, "out": np.zeros(100, np.float32)}


def _addresses(arrays: dict[str, np.ndarray]) -> dict[str, int]:
    return {name: array.ctypes.data for name, array in arrays.items()}


def test_a_stage_is_launched_with_its_arguments_in_order(plan: LaunchPlan) -> None:
    arrays = _arrays()
    with fake_cuda(plan) as driver:
        launch_stage(load_plan(plan)["blend"], plan.stages[0], _addresses(arrays), 1234)
    assert driver.streams == [1234]
    np.testing.assert_allclose(arrays["out"], arrays["a"] - 7 * arrays["b"], rtol=1e-6)


def test_numbers_and_addresses_are_told_apart(plan: LaunchPlan) -> None:
    arrays = _arrays()
    a, b, out = (ctypes.c_void_p(array.ctypes.data) for array in arrays.values())
    with fake_cuda(plan):
        kernel = Module(b".entry").function("blend")
        launch(kernel, (4, 1, 1), 32, [a, b, ctypes.c_int32(50), ctypes.c_int32(-1), out], 0)
    np.testing.assert_allclose(arrays["out"][:50], (arrays["a"] + arrays["b"])[:50], rtol=1e-6)
    assert not arrays["out"][50:].any()


def test_kernels_are_compiled_and_loaded_once(plan: LaunchPlan) -> None:
    with fake_cuda(plan) as driver:
        first, second = load_plan(plan), load_plan(plan)
    assert first is second
    assert driver.calls.count("cuModuleLoadData") == 1


def test_a_thread_without_a_context_gets_the_first_devices(plan: LaunchPlan) -> None:
    with fake_cuda(plan) as driver:
        assert current_device() == 0
        assert compute_capability() == 87
        assert driver.context == CONTEXT
        assert driver.calls.count("cuDevicePrimaryCtxRetain") == 1


def test_a_context_that_is_there_is_kept(plan: LaunchPlan) -> None:
    with fake_cuda(plan) as driver:
        driver.context = 5
        current_device()
        assert driver.context == 5
        assert "cuCtxSetCurrent" not in driver.calls


def test_without_a_device(plan: LaunchPlan) -> None:
    with fake_cuda(plan) as driver:
        driver.failing["cuInit"] = 100
        with pytest.raises(UnsupportedTargetError, match="no device"):
            load_plan(plan)


def test_the_drivers_words_are_passed_on(plan: LaunchPlan) -> None:
    with fake_cuda(plan) as driver:
        driver.failing["cuModuleLoadData"] = 218
        with pytest.raises(RuntimeError, match="cuModuleLoadData failed with error 218: something"):
            load_plan(plan)


def test_an_unknown_kernel_is_an_error(plan: LaunchPlan) -> None:
    with fake_cuda(plan), pytest.raises(RuntimeError, match="cuModuleGetFunction"):
        Module(b".entry").function("blended")


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(name)

    cuda_driver._library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(MissingDependencyError, match=r"libcuda\.so\.1"):
        Module(b"")
    cuda_driver._library.cache_clear()


def _has_gpu() -> bool:
    try:
        return compute_capability() > 0
    except (MissingDependencyError, UnsupportedTargetError):
        return False


@pytest.mark.gpu
@pytest.mark.skipif(not _has_gpu(), reason="no CUDA device")
def test_on_a_device(plan: LaunchPlan) -> None:
    torch = pytest.importorskip("torch")
    arrays = {name: torch.from_numpy(array).cuda() for name, array in _arrays().items()}
    addresses = {name: array.data_ptr() for name, array in arrays.items()}
    stream = torch.cuda.current_stream().cuda_stream
    launch_stage(load_plan(plan)["blend"], plan.stages[0], addresses, stream)
    expected = arrays["a"] - 7 * arrays["b"]
    torch.testing.assert_close(arrays["out"], expected)


def test_the_fake_refuses_another_number_of_parameters(plan: LaunchPlan) -> None:
    with fake_cuda(plan):
        kernel = Module(b".entry").function("blend")
        with pytest.raises(AssertionError):
            launch(kernel, (1, 1, 1), 32, [ctypes.c_int32(1)] * 4, 0)
