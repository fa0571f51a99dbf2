"""GPU memory is what the driver says is free, before and after, in the shared primary context."""

import ctypes
from typing import Any

import pytest

from maskrt.runtime import cuda_memory_use
from maskrt.runtime.cuda_memory_use import device_memory


class Driver:
    """A driver of two GPUs, strict about its context stack; the second has context 78."""

    def __init__(self) -> None:
        self.free, self.retained, self.stack = [500, 1000], [0, 0], list[int]()
        self.fails: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            return 2 if name in self.fails else getattr(self, "do_" + name)(*arguments)

        return call

    def do_cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def do_cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:  # noqa: N802
        context._obj.value = 77 + device.value
        self.retained[device.value] += 1
        return 0

    def do_cuDevicePrimaryCtxRelease(self, device: int) -> int:  # noqa: N802
        self.retained[device] -= 1
        return 0

    def do_cuCtxPushCurrent_v2(self, context: ctypes.c_void_p) -> int:  # noqa: N802
        self.stack.append((context.value or 0) - 77)
        return 0

    def do_cuCtxPopCurrent_v2(self, _context: Any) -> int:  # noqa: N802
        self.stack.pop()
        return 0

    def do_cuMemGetInfo_v2(self, free: Any, total: Any) -> int:  # noqa: N802
        free._obj.value, total._obj.value = self.free[self.stack[-1]], 4000
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setattr(cuda_memory_use, "open_driver", lambda: made)
    return made


@pytest.mark.parametrize("device", [0, 1])
def test_what_was_taken_on_that_gpu_since_the_block_began(driver: Driver, device: int) -> None:
    before = driver.free[device]
    with device_memory(device) as taken:
        assert taken() == 0
        driver.free[device] -= 400
        driver.free[1 - device] -= 50  # another program's
        assert taken() == 400
        driver.free[device] = before + 200  # another program has ended
        assert taken() == 0
        assert driver.retained[device] == 1
    assert (driver.retained, driver.stack) == ([0, 0], [])


@pytest.mark.parametrize(
    "call", ["cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuMemGetInfo_v2"]
)
def test_a_driver_that_does_not_tell(driver: Driver, call: str) -> None:
    driver.fails.add(call)
    with device_memory(0) as taken:
        assert taken() is None
    assert (driver.retained, driver.stack) == ([0, 0], [])


def test_an_engine_without_a_gpu_leaves_the_driver_alone(driver: Driver) -> None:
    with device_memory(None) as taken:
        assert taken() is None
        assert driver.retained == [0, 0]
