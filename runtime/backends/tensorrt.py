"""TensorRT and TensorRT-RTX on a GPU: execute `engine.trt`. Has not run on real hardware.

Written against the interface that both share (`ICudaEngine`,
`IExecutionContext.set_tensor_address`, `execute_async_v3`; TensorRT 10.0 and later) and
`cuda.bindings.runtime`; the order of the calls is tested with stand-ins for both. A call is: input
into page-locked memory, copy to the device, execute, copy back, wait: all on one stream, so it
needs one synchronisation.

Shapes are static, so all memory is allocated and bound once, when the engine is opened. That is
also when TensorRT-RTX compiles its kernels for the GPU, which takes seconds.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ...core import BundleError, InputSpec, UnsupportedTargetError, require
from .base import Backend
from .cuda_memory import DeviceTensor, checked

if TYPE_CHECKING:
    from ..cuda import FrameSlots

__all__ = ["TensorRTBackend"]

_NAMES = {"tensorrt_rtx": "TensorRT-RTX", "tensorrt": "TensorRT"}


class TensorRTBackend(Backend):
    """A deserialised engine with its context, stream and memory."""

    def __init__(
        self,
        engine: bytes,
        *,
        device: int = 0,
        package: str = "tensorrt_rtx",
        plugins: bool = False,
        portable: bool = False,
        on_device: bool = False,
        paste: bool = True,
    ) -> None:
        """Load an engine.

        Args:
            engine: content of `engine.trt`.
            device: which GPU, counted as CUDA does.
            package: `"tensorrt_rtx"` or `"tensorrt"`, whichever built it.
            plugins: the engine names maskrt's Python plugins, which are registered first.
            portable: the engine is version-compatible, and brings code of its own.
            on_device: letterbox and paste on the GPU, too (`runtime/cuda/frame.py`).
            paste: the masks are over boxes, which the GPU pastes; others the host resamples.

        Raises:
            MissingDependencyError: the package or cuda-python is not installed.
            UnsupportedTargetError: the GPU cannot be used, or has too little memory.
            BundleError: TensorRT does not accept the engine.
        """
        self._trt = require(package, "run TensorRT engines")
        self._cuda = require("cuda.bindings.runtime", "run TensorRT engines")
        self._package, self._name = package, _NAMES[package]
        if plugins:
            from ...plugins.adapters.tensorrt_v3 import register_plugins

            register_plugins(self._trt)
        self._device, self._portable, self._on_device = device, portable, on_device
        self._paste = paste
        self._tensors: dict[str, DeviceTensor] = {}
        self._stream: Any = None
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._use_device()
        try:
            self._open(engine)
        except BaseException:
            self.close()
            raise

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs for one batch, uint8 `[B, H, W, 3]`."""
        self._use_device()
        np.copyto(self._tensors["images"].host, images)
        self._tensors["images"].to_device(self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise UnsupportedTargetError(
                f"{self._name} could not execute the engine, for the reason that it printed above: "
                "build it again on this machine, or run on target cpu."
            )
        outputs = {name: t for name, t in self._tensors.items() if name != "images"}
        for tensor in outputs.values():
            tensor.to_host(self._stream)
        checked(self._cuda.cudaStreamSynchronize(self._stream), "execute the engine")
        return {name: tensor.host.copy() for name, tensor in outputs.items()}

    def open_frames(self, spec: InputSpec, slots: int) -> "FrameSlots | None":
        """Return frames on this GPU, each slot with an execution context of its own."""
        if not self._on_device:
            return None
        from ..cuda import FrameSlots, open_cuda
        from .tensorrt_frames import TensorRTDeviceEngine

        about = {name: (t.host.shape, t.host.dtype) for name, t in self._tensors.items()}
        engine = TensorRTDeviceEngine(self._engine, about, self._name)
        return FrameSlots(open_cuda(self._device), engine, spec, slots=slots, paste=self._paste)

    def describe(self) -> dict[str, Any]:
        """Return the package, its version, the GPU's number, and where pictures are letterboxed."""
        return {
            "backend": self._package,
            "version": self._trt.__version__,
            "device": self._device,
            "frames": "gpu" if self._on_device else "cpu",
        }

    def close(self) -> None:
        """Release context, engine, memory and stream, in that order."""
        self._context = self._engine = self._runtime = None
        tensors, self._tensors = self._tensors, {}
        for tensor in tensors.values():
            tensor.free()
        stream, self._stream = self._stream, None
        if stream is not None:
            checked(self._cuda.cudaStreamDestroy(stream), "close its stream")

    def _use_device(self) -> None:
        """Make the device current: CUDA keeps that a thread."""
        checked(self._cuda.cudaSetDevice(self._device), f"use GPU {self._device}")

    def _open(self, engine: bytes) -> None:
        trt = self._trt
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        if self._portable:
            self._runtime.engine_host_code_allowed = True
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise BundleError(
                f"{self._name} {trt.__version__} does not load engine.trt, for the reason that it "
                "printed above: build the engine again with this version."
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise UnsupportedTargetError(
                f"{self._name} could not prepare the engine on this GPU, for the reason that it "
                "printed above: free GPU memory, or run on target cpu."
            )
        self._stream = checked(self._cuda.cudaStreamCreate(), "open a stream")
        for index in range(self._engine.num_io_tensors):
            self._bind(self._engine.get_tensor_name(index))

    def _bind(self, name: str) -> None:
        """Allocate one input or output and tell the context where it lies."""
        shape = tuple(self._engine.get_tensor_shape(name))
        dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        self._tensors[name] = tensor = DeviceTensor(self._cuda, name, shape, dtype)
        if not self._context.set_tensor_address(name, tensor.address):
            raise BundleError(f"engine.trt does not take memory for {name}: build it again.")
