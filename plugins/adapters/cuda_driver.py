"""The CUDA driver: loads compiled kernels and launches them on a stream of the caller's.

It is called through ctypes on the library that comes with every NVIDIA driver, so no CUDA package
is needed. Nothing here allocates device memory or synchronises: a launch may stand between others
that a stream capture records.

Modules live in the CUDA context that is current on the calling thread. TensorRT and PyTorch make
one current before they call a kernel; a thread without one gets the first device's primary context,
as it would from the CUDA runtime.

Source: CUDA Driver API, https://docs.nvidia.com/cuda/cuda-driver-api/.
"""

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from ...core import MissingDependencyError, UnsupportedTargetError
from ...core.cuda_library import NAME, open_cuda_library
from ..launch import LaunchPlan, Stage
from .nvrtc import compile_plan

__all__ = [
    "Function",
    "Module",
    "call_driver",
    "compute_capability",
    "current_device",
    "has_function",
    "launch",
    "launch_stage",
    "load_plan",
]

Argument = ctypes.c_void_p | ctypes.c_int32
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


class Function:
    """A kernel of a loaded module."""

    def __init__(self, handle: ctypes.c_void_p, name: str) -> None:
        """Name a kernel; made by `Module.function`."""
        self.handle = handle
        self.name = name


class Module:
    """PTX or a cubin, loaded into the current context; it stays there until the process ends."""

    def __init__(self, code: bytes) -> None:
        """Load `code`.

        Raises:
            MissingDependencyError: no CUDA driver on this machine.
            UnsupportedTargetError: no CUDA device.
            RuntimeError: the driver refuses the code, with its words.
        """
        _ensure_context()
        self._handle = ctypes.c_void_p()
        call_driver("cuModuleLoadData", ctypes.byref(self._handle), code)

    def function(self, name: str) -> Function:
        """Return the kernel whose `extern "C"` name is `name`."""
        handle = ctypes.c_void_p()
        call_driver("cuModuleGetFunction", ctypes.byref(handle), self._handle, name.encode())
        return Function(handle, name)


def launch(
    function: Function,
    grid: Sequence[int],
    block: int,
    arguments: Sequence[Argument],
    stream: int,
) -> None:
    """Launch a kernel and return at once.

    Args:
        function: the kernel.
        grid: blocks along x, y, z.
        block: threads a block, along x.
        arguments: the kernel's parameters in order: device addresses as `ctypes.c_void_p`, numbers
            as `ctypes.c_int32`.
        stream: handle of the CUDA stream, 0 for the default one.
    """
    places = [ctypes.cast(ctypes.pointer(value), ctypes.c_void_p) for value in arguments]
    call_driver(
        "cuLaunchKernel", function.handle, *grid, block, 1, 1, 0, ctypes.c_void_p(stream),
        (ctypes.c_void_p * len(places))(*places), None,
    )  # fmt: skip


def launch_stage(
    function: Function, stage: Stage, addresses: Mapping[str, int], stream: int
) -> None:
    """Launch one stage of a plan whose sizes are integers.

    Args:
        function: the stage's kernel.
        stage: what to launch.
        addresses: device address of every tensor that the stage names.
        stream: handle of the CUDA stream, 0 for the default one.
    """
    arguments: list[Argument] = [ctypes.c_void_p(addresses[name]) for name in stage.inputs]
    arguments += [ctypes.c_int32(value) for value in stage.extras]
    arguments += [ctypes.c_void_p(addresses[name]) for name in stage.outputs]
    launch(function, stage.grid, stage.block, arguments, stream)


def load_plan(plan: LaunchPlan) -> Mapping[str, Function]:
    """Compile the kernels of `plan` for the current device and load them, or find them loaded.

    Returns:
        The kernels by name.

    Raises:
        MissingDependencyError: no CUDA driver, or no NVRTC.
        UnsupportedTargetError: no CUDA device, or one that this NVRTC does not know.
    """
    sm, context = compute_capability(), _ensure_context()
    entries = tuple(dict.fromkeys(stage.entry for stage in plan.stages))
    return _load(compile_plan(plan, sm, "cubin").code, entries, context)


@cache
def _load(code: bytes, entries: tuple[str, ...], context: int) -> Mapping[str, Function]:
    module = Module(code)
    return {entry: module.function(entry) for entry in entries}


def current_device() -> int:
    """Return the ordinal of the device of the current context."""
    _ensure_context()
    device = ctypes.c_int()
    call_driver("cuCtxGetDevice", ctypes.byref(device))
    return device.value


def compute_capability() -> int:
    """Return the current device's compute capability, such as 87."""
    device, numbers = current_device(), []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int()
        call_driver("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        numbers.append(value.value)
    return 10 * numbers[0] + numbers[1]


def _ensure_context() -> int:
    """Return the current context's handle; without one, make the first device's current."""
    context = ctypes.c_void_p()
    call_driver("cuInit", 0)
    call_driver("cuCtxGetCurrent", ctypes.byref(context))
    if not context.value:
        call_driver("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        call_driver("cuCtxSetCurrent", context)
    return context.value or 0


def has_function(name: str) -> bool:
    """Whether the driver of this machine is new enough to have a function."""
    return hasattr(_library(), name)


def call_driver(name: str, *arguments: Any) -> None:
    """Call a function of the driver.

    Raises:
        MissingDependencyError: no CUDA driver on this machine.
        UnsupportedTargetError: no CUDA device.
        RuntimeError: the call failed, with the driver's words.
    """
    status = getattr(_library(), name)(*arguments)
    if status == _NO_DEVICE:
        raise UnsupportedTargetError(
            "the CUDA driver finds no device on this machine: run this where there is one."
        )
    if status:
        text = ctypes.c_char_p()
        _library().cuGetErrorString(status, ctypes.byref(text))
        words = (text.value or b"unknown error").decode()
        raise RuntimeError(f"the CUDA driver's {name} failed with error {status}: {words}.")


@lru_cache
def _library() -> Any:
    library = open_cuda_library()
    if library is None:
        raise MissingDependencyError(
            f"the CUDA driver ({NAME}) is needed to launch kernels and was not found: install "
            "NVIDIA's driver, or choose the target 'cpu'."
        )
    return library
