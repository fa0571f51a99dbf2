"""A CUDA driver without a device: it runs what is launched on the host, and notes every call.

It reads a launch as the driver does: parameters are a list of addresses, one for each value, and
how many there are, and of which kind, it knows from the kernel alone.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from maskrt.plugins.adapters import cuda_driver
from maskrt.plugins.adapters.host import launch_stage_on_host
from maskrt.plugins.launch import LaunchPlan

CONTEXT, MODULE = 71, 72


class FakeCuda:
    """As `libcuda.so.1`, with a device of compute capability 8.7; status codes are returned."""

    def __init__(self, plan: LaunchPlan) -> None:
        self.plan = plan
        self.calls: list[str] = []
        self.streams: list[int] = []
        self.context = 0
        self.names: dict[int, str] = {}
        self.failing: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            return self.failing.get(name) or getattr(self, f"_{name}")(*arguments) or 0

        return call

    def _cuInit(self, flags: int) -> None:  # noqa: N802
        assert flags == 0

    def _cuGetErrorString(self, status: int, text: Any) -> None:  # noqa: N802
        text._obj.value = b"something is wrong"

    def _cuCtxGetCurrent(self, context: Any) -> None:  # noqa: N802
        context._obj.value = self.context or None

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> None:  # noqa: N802
        assert device == 0
        context._obj.value = CONTEXT

    def _cuCtxSetCurrent(self, context: ctypes.c_void_p) -> None:  # noqa: N802
        self.context = context.value or 0

    def _cuCtxGetDevice(self, device: Any) -> None:  # noqa: N802
        device._obj.value = 0

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> None:  # noqa: N802
        value._obj.value = {75: 8, 76: 7}[attribute]

    def _cuModuleLoadData(self, module: Any, code: bytes) -> None:  # noqa: N802
        assert code.startswith(b"\x7fELF") or b".entry" in code
        module._obj.value = MODULE

    def _cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> int:  # noqa: N802
        assert module.value == MODULE
        if name.decode() not in {stage.entry for stage in self.plan.stages}:
            return 500
        self.names[len(self.names) + 1] = name.decode()
        function._obj.value = len(self.names)
        return 0

    def _cuLaunchKernel(self, function: Any, *rest: Any) -> None:  # noqa: N802
        grid, block, (shared, stream, parameters, extra) = rest[:3], rest[3:6], rest[6:]
        assert block[1:] == (1, 1)
        assert shared == 0
        assert extra is None
        self.streams.append(stream.value or 0)
        entry = self.names[function.value]
        stage = next(stage for stage in self.plan.stages if stage.entry == entry)
        counts = len(stage.inputs), len(stage.extras), len(stage.outputs)
        assert len(parameters) == sum(counts)
        first, last = counts[0], counts[0] + counts[1]
        pointers = [ctypes.c_void_p.from_address(p) for p in (*parameters[:first],
                                                              *parameters[last:])]  # fmt: skip
        extras = tuple(ctypes.c_int32.from_address(p).value for p in parameters[first:last])
        addresses = dict(zip((*stage.inputs, *stage.outputs), pointers, strict=True))
        launched = replace(stage, extras=extras, grid=tuple(grid), block=block[0])
        launch_stage_on_host(self.plan, launched, addresses)


@contextmanager
def fake_cuda(plan: LaunchPlan) -> Iterator[FakeCuda]:
    """Put a fake driver in the place of the machine's."""
    driver = FakeCuda(plan)
    cuda_driver._load.cache_clear()
    with mock.patch.object(cuda_driver, "_library", return_value=driver):
        yield driver
    cuda_driver._load.cache_clear()
