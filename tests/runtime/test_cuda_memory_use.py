"""GPU memory is what the driver says is free, before and after, in the shared primary context."""

import ctypes
from typing import Any

import pytest

from maskrt.core import Target
from maskrt.runtime import cuda_device, cuda_memory_use
from maskrt.runtime.cuda_memory_use import device_memory

GPU = Target.parse("rtx")


class Driver:
    """A driver of one GPU of compute capability 8.9, strict about its context stack."""

    def __init__(self) -> None:
        self.free, self.retained, self.stack = 1000, 0, 0
        self.fails: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            return 2 if name in self.fails else getattr(self, "do_" + name)(*arguments)

        return call

    def do_cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 1
        return 0

    def do_cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def do_cuDeviceGetAttribute(self, value: Any, which: int, _device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 9}[which]
        return 0

    def do_cuDevicePrimaryCtxRetain(self, context: Any, _device: Any) -> int:  # noqa: N802
        context._obj.value = 77
        self.retained += 1
        return 0

    def do_cuDevicePrimaryCtxRelease(self, _device: Any) -> int:  # noqa: N802
        self.retained -= 1
        return 0

    def do_cuCtxPushCurrent_v2(self, context: ctypes.c_void_p) -> int:  # noqa: N802
        assert context.value == 77
        self.stack += 1
        return 0

    def do_cuCtxPopCurrent_v2(self, _context: Any) -> int:  # noqa: N802
        self.stack -= 1
        return 0

    def do_cuMemGetInfo_v2(self, free: Any, total: Any) -> int:  # noqa: N802
        assert self.stack == 1
        free._obj.value, total._obj.value = self.free, 4000
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    for module in (cuda_device, cuda_memory_use):
        monkeypatch.setattr(module, "open_driver", lambda: made)
    return made


def test_what_was_taken_since_the_block_began(driver: Driver) -> None:
    with device_memory(GPU) as taken:
        assert taken() == 0
        driver.free = 400
        assert taken() == 600
        driver.free = 1200  # another program has ended
        assert taken() == 0
        assert driver.retained == 1
    assert (driver.retained, driver.stack) == (0, 0)


@pytest.mark.parametrize(
    "call", ["cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuMemGetInfo_v2"]
)
def test_a_driver_that_does_not_tell(driver: Driver, call: str) -> None:
    driver.fails.add(call)
    with device_memory(GPU) as taken:
        assert taken() is None
    assert (driver.retained, driver.stack) == (0, 0)


def test_a_target_without_a_gpu_leaves_the_driver_alone(driver: Driver) -> None:
    with device_memory(Target.parse("cpu")) as taken:
        assert taken() is None
        assert driver.retained == 0
