"""Where a launch runs: the host's memory and kernels, or a CUDA device's.

Buffers are aligned as CUDA's are, filled with what is no number, and guarded on the host.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from maskrt.plugins.adapters.cuda_driver import Module, launch
from maskrt.plugins.adapters.host import launch_stage_on_host
from maskrt.plugins.adapters.tensorrt_aot import engine_entry
from maskrt.plugins.launch import LaunchPlan, Stage, Tensor

_GUARD = 256
_GUARD_BYTE = 0xC5


@dataclass(frozen=True)
class Launch:
    """One kernel launch, as numbers: nothing of the launch plan is left in it."""

    entry: str
    ptx: bytes
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    inputs: tuple[Any, ...]
    extras: tuple[int, ...]
    outputs: tuple[Any, ...]


class HostBuffer:
    """An array on the host."""

    def __init__(self, shape: Sequence[int], dtype: str) -> None:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._raw = np.full(size + 3 * _GUARD, _GUARD_BYTE, np.uint8)
        self._start = _GUARD + -self._raw.ctypes.data % _GUARD
        self._stop = self._start + size
        self._raw[self._start : self._stop] = 0xFF
        self.array = self._raw[self._start : self._stop].view(dtype).reshape(shape)
        self.address = self._raw.ctypes.data + self._start

    def write(self, value: np.ndarray) -> None:
        self.array[...] = value

    def read(self) -> np.ndarray:
        sides = self._raw[: self._start], self._raw[self._stop :]
        assert all((side == _GUARD_BYTE).all() for side in sides), "memory beside it was written"
        return self.array


class Host:
    """Runs launches on the CPU. The kernel is the host's build of the file that the PTX is of."""

    Buffer = HostBuffer

    def launch(self, plan: LaunchPlan, found: Launch) -> None:
        names, tensors, addresses = [], {}, {}
        for buffer in (*found.inputs, *found.outputs):
            names.append(f"argument{len(names)}")
            tensors[names[-1]] = Tensor(buffer.array.shape, str(buffer.array.dtype))
            addresses[names[-1]] = ctypes.c_void_p(buffer.address)
        count = len(found.inputs)
        assert found.block[1:] == (1, 1)
        assert found.shared == 0
        entries = {engine_entry(plan, stage): stage.entry for stage in plan.stages}
        assert len(entries) == len(plan.stages)
        stage = Stage(
            entries[found.entry], tuple(names[:count]), found.extras, tuple(names[count:]),
            found.grid, found.block[0],
        )  # fmt: skip
        launch_stage_on_host(replace(plan, tensors=tensors), stage, addresses)


class DeviceBuffer:
    """An array on a CUDA device, held by PyTorch."""

    def __init__(self, shape: Sequence[int], dtype: str) -> None:
        import torch

        self._tensor = torch.empty(tuple(shape), dtype=getattr(torch, dtype), device="cuda")
        self._tensor.view(torch.uint8).fill_(0xFF) if self._tensor.numel() else None
        self.address = self._tensor.data_ptr()

    def write(self, value: np.ndarray) -> None:
        import torch

        self._tensor.copy_(torch.from_numpy(value))

    def read(self) -> np.ndarray:
        return self._tensor.cpu().numpy()


class Device:
    """Runs launches on the GPU, from the PTX itself."""

    Buffer = DeviceBuffer

    def launch(self, plan: LaunchPlan, found: Launch) -> None:
        import torch

        assert found.block[1:] == (1, 1)
        arguments = [ctypes.c_void_p(b.address) for b in found.inputs]
        arguments += [ctypes.c_int32(value) for value in found.extras]
        arguments += [ctypes.c_void_p(b.address) for b in found.outputs]
        function = Module(found.ptx).function(found.entry)
        stream = torch.cuda.current_stream().cuda_stream
        launch(function, found.grid, found.block[0], arguments, stream)
