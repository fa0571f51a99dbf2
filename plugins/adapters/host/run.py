"""Runs a launch plan on NumPy arrays, in this process, or in a sanitized one."""

import ctypes
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...launch import LaunchPlan, Stage
from .build import Sanitizer, build

__all__ = ["KernelFaultError", "launch_stage_on_host", "run_plan", "sanitize_plan"]

_GUARD = 256  # bytes before and after each buffer that nobody may write
_GUARD_BYTE = 0xC5


class KernelFaultError(RuntimeError):
    """A kernel did on the host what a device would not forgive."""


class _Buffer:
    """Memory aligned as CUDA's allocations are, with guarded bytes on both sides."""

    def __init__(self, shape: tuple[int, ...], dtype: str, pattern: int) -> None:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._raw = np.full(size + 3 * _GUARD, _GUARD_BYTE, np.uint8)
        start = _GUARD + -self._raw.ctypes.data % _GUARD
        self._start, self._stop = start, start + size
        self._raw[start : self._stop] = pattern
        self.array = self._raw[start : self._stop].view(dtype).reshape(shape)
        self.pointer = ctypes.c_void_p(self._raw.ctypes.data + start)

    def is_intact(self) -> bool:
        """Whether nobody wrote beside the array."""
        sides = (self._raw[: self._start], self._raw[self._stop :])
        return all((side == _GUARD_BYTE).all() for side in sides)


def run_plan(
    plan: LaunchPlan, inputs: Sequence[np.ndarray], *, order: int = 0, pattern: int = 0xFF
) -> list[np.ndarray]:
    """Launch every stage of `plan` on the CPU.

    Args:
        plan: with integers for sizes.
        inputs: the operator's inputs, of the plan's shapes and types.
        order: 0 to 3; bit 0 runs the threads of a block backwards, bit 1 the blocks of a grid.
        pattern: byte that scratch memory, outputs and shared memory hold before a launch.

    Returns:
        The operator's outputs.

    Raises:
        KernelFaultError: a kernel's parameters are not those of the plan, a barrier is not reached
            by all, or memory beside an output was written.
    """
    library = _load(build(plan))
    buffers = _allocate(plan, inputs, pattern)
    for stage in plan.working_stages:
        _check_signature(library, plan, stage)
        arguments = _Arguments([buffers[n].pointer for n in stage.inputs], stage.extras,
                               [buffers[n].pointer for n in stage.outputs])  # fmt: skip
        grid = (ctypes.c_uint * 3)(*stage.grid)
        wrong = library.maskrt_launch(
            stage.entry.encode(), grid, stage.block, arguments.list, order, pattern
        )
        if wrong:
            raise KernelFaultError(f"{stage.entry}: {wrong.decode()}.")
    for name, buffer in buffers.items():
        if not buffer.is_intact():
            raise KernelFaultError(f"memory beside tensor {name!r} was written.")
    for name, given in zip(plan.inputs, inputs, strict=True):
        if not np.array_equal(buffers[name].array.view(np.uint8), _bytes_of(given)):
            raise KernelFaultError(f"input {name!r} was written.")
    return [buffers[name].array for name in plan.outputs]


def launch_stage_on_host(
    plan: LaunchPlan,
    stage: Stage,
    addresses: Mapping[str, ctypes.c_void_p],
    *,
    order: int = 0,
    pattern: int = 0xFF,
) -> None:
    """Launch one stage of `plan` on memory of the caller's.

    Args:
        plan: whose kernel file holds the stage's kernel.
        stage: with integers for sizes.
        addresses: of every tensor that the stage names.
        order: as in `run_plan`.
        pattern: as in `run_plan`, for shared memory.

    Raises:
        KernelFaultError: as `run_plan`.
    """
    library = _load(build(plan))
    _check_signature(library, plan, stage)
    arguments = _Arguments(
        [addresses[n] for n in stage.inputs], stage.extras, [addresses[n] for n in stage.outputs]
    )
    grid = (ctypes.c_uint * 3)(*stage.grid)
    wrong = library.maskrt_launch(
        stage.entry.encode(), grid, stage.block, arguments.list, order, pattern
    )
    if wrong:
        raise KernelFaultError(f"{stage.entry}: {wrong.decode()}.")


def sanitize_plan(
    plan: LaunchPlan, inputs: Sequence[np.ndarray], sanitizer: Sanitizer
) -> list[np.ndarray]:
    """Launch every stage in a process of its own, built with a sanitizer.

    Returns:
        The operator's outputs.

    Raises:
        KernelFaultError: the sanitizer, or the shim, found something; with its words.
    """
    program = build(plan, sanitizer)
    buffers = _allocate(plan, inputs, 0xFF)
    places = {name: index for index, name in enumerate(buffers)}
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for name, buffer in buffers.items():
            path = Path(folder) / f"{places[name]}.bin"
            path.write_bytes(buffer.array.tobytes())
            lines.append(f"buffer {buffer.array.nbytes} {path}")
        for stage in plan.working_stages:
            words = [f"b{places[n]}" for n in stage.inputs] + [f"i{v}" for v in stage.extras]
            words += [f"b{places[n]}" for n in stage.outputs]
            grid = " ".join(str(extent) for extent in stage.grid)
            lines.append(
                f"launch {stage.entry} {grid} {stage.block} {len(words)} {' '.join(words)}"
            )
        job = Path(folder) / "job"
        job.write_text("\n".join(lines), encoding="ascii")
        done = subprocess.run([program, job], capture_output=True, text=True, check=False)
        if done.returncode or "WARNING: ThreadSanitizer" in done.stderr:
            raise KernelFaultError(f"with -fsanitize={sanitizer}:\n{done.stderr[:4000]}")
        outputs = []
        for name in plan.outputs:
            array = buffers[name].array
            data = (Path(folder) / f"{places[name]}.bin").read_bytes()
            outputs.append(np.frombuffer(data, array.dtype).reshape(array.shape))
    return outputs


def _allocate(
    plan: LaunchPlan, inputs: Sequence[np.ndarray], pattern: int
) -> Mapping[str, _Buffer]:
    buffers = {}
    for name, tensor in plan.tensors.items():
        buffers[name] = _Buffer(tensor.shape, tensor.dtype, pattern)
    for name, given in zip(plan.inputs, inputs, strict=True):
        tensor = plan.tensors[name]
        if given.shape != tensor.shape or given.dtype != np.dtype(tensor.dtype):
            raise ValueError(
                f"input {name!r} is {given.dtype} {given.shape}, and the plan's is {tensor.dtype} "
                f"{tensor.shape}."
            )
        buffers[name].array[...] = given
    return buffers


class _Arguments:
    """Kernel arguments as `cuLaunchKernel` takes them: a list of pointers to values."""

    def __init__(
        self,
        inputs: Sequence[ctypes.c_void_p],
        extras: Sequence[int],
        outputs: Sequence[ctypes.c_void_p],
    ) -> None:
        self._values = [*inputs, *(ctypes.c_int(value) for value in extras), *outputs]
        pointers = [ctypes.cast(ctypes.pointer(v), ctypes.c_void_p) for v in self._values]
        self.list = (ctypes.c_void_p * len(pointers))(*pointers)


def _check_signature(library: ctypes.CDLL, plan: LaunchPlan, stage: Stage) -> None:
    found = (library.maskrt_signature(stage.entry.encode()) or b"").decode()
    expected = plan.signature(stage)
    if found != expected:
        raise KernelFaultError(
            f"{stage.entry} takes ({found}), and its launch plan passes ({expected})."
        )


def _bytes_of(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint8)


@lru_cache
def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.maskrt_signature.restype = ctypes.c_char_p
    library.maskrt_launch.restype = ctypes.c_char_p
    library.maskrt_launch.argtypes = [
        ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint), ctypes.c_uint,
        ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int,
    ]  # fmt: skip
    return library
