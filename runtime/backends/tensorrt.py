"""TensorRT and TensorRT-RTX on a GPU: execute `engine.trt`. Has not run on real hardware.

Written against the interface that both share (`ICudaEngine`,
`IExecutionContext.set_tensor_address`, `execute_async_v3`; TensorRT 10.0 and later); memory, copies
and the stream are the CUDA layer's (`runtime/cuda/`), by cuda-python or by pycuda, whichever is
installed. The order of the calls is tested with a stand-in for TensorRT. A call is: input into
page-locked memory, copy to the device, execute, copy back, wait: all on one stream, so it needs one
synchronisation.

Shapes are static, so all memory is allocated and bound once, when the engine is opened, or, where
frames run on the GPU and have contexts of their own, when `run` is first called. That is also when
TensorRT-RTX compiles its kernels for the GPU, which takes seconds. Each context holds a set of
activations; a device of less than 6 GB (the smallest Orin Nano) is to have one (`one_frame`).
"""

import contextlib
import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core import BundleError, InputSpec, UnsupportedTargetError, require
from ...core.masks import MaskPaste
from ..cuda_device import total_memory
from .base import Backend

if TYPE_CHECKING:
    from ..cuda import Buffer, EngineContext, FrameSlots
    from .tensorrt_frames import TensorRTDeviceEngine

__all__ = ["TensorRTBackend"]

_SMALL_BYTES = 6 * 10**9
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
        paste: MaskPaste | None = MaskPaste.TORCHVISION,
        user_allocation: bool = False,
        dla: int | None = None,
    ) -> None:
        """Load an engine.

        Args:
            engine: content of `engine.trt`.
            device: which GPU, counted as CUDA does.
            package: `"tensorrt_rtx"` or `"tensorrt"`, whichever built it.
            plugins: the engine names maskrt's Python plugins, which are registered first.
            portable: the engine is version-compatible, and brings code of its own.
            on_device: letterbox and paste on the GPU, too (`runtime/cuda/frame.py`).
            paste: how the GPU pastes masks over boxes; None for others, which the host resamples.
            user_allocation: the engine was built to be given its memory (`tensorrt_frames.py`).
            dla: the deep learning accelerator that runs a part of the engine.

        Raises:
            MissingDependencyError: the package is not installed, or neither cuda-python nor pycuda.
            UnsupportedTargetError: the GPU cannot be used, or has too little memory.
            BundleError: TensorRT does not accept the engine.
        """
        from ..cuda import open_cuda

        self._trt = require(package, "run TensorRT engines")
        self._cuda = open_cuda(device)
        self._package, self._name = package, _NAMES[package]
        if plugins:
            from ...plugins.adapters.tensorrt_v3 import register_plugins

            register_plugins(self._trt)
        self._device, self._portable, self._on_device = device, portable, on_device
        self._paste, self._user_allocation, self._dla = paste, user_allocation, dla
        self._buffers: dict[str, Buffer] = {}
        self._stream: Any = None
        self._runtime: Any = None
        self._engine: TensorRTDeviceEngine | None = None
        self._context: EngineContext | None = None
        try:
            with self._cuda.active():
                self._open(engine)
        except BaseException:
            self.close()
            raise

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs for one batch, uint8 `[B, H, W, 3]`."""
        if self._context is None:
            with self._cuda.active():
                self._context = self._open_context()
        stream, given = self._stream, self._buffers["images"]
        outputs = {name: b for name, b in self._buffers.items() if name != "images"}
        with self._cuda.active():
            np.copyto(self._host("images"), images)
            self._cuda.upload(given.address, given.array(0, given.size), stream)
            self._context.enqueue(self._cuda.handle(stream))
            for buffer in outputs.values():
                self._cuda.download(buffer.array(0, buffer.size), buffer.address, stream)
            self._cuda.synchronise(stream)
        return {name: self._host(name).copy() for name in outputs}

    def open_frames(self, spec: InputSpec, slots: int) -> "FrameSlots | None":
        """Return frames on this GPU, each slot with an execution context of its own."""
        if not self._on_device or self._engine is None:
            return None
        from ..cuda import FrameSlots

        return FrameSlots(self._cuda, self._engine, spec, slots=slots, paste=self._paste)

    def describe(self) -> dict[str, Any]:
        """Return the package, its version, the GPU's number, and where pictures are letterboxed.

        With frames on the GPU also whether they are a CUDA graph: None as long as no size of
        pictures has come twice, or False with the reason.
        """
        return {
            "backend": self._package,
            "version": self._trt.__version__,
            "device": self._device,
            "frames": "gpu" if self._on_device else "cpu",
            **(self._graph() if self._on_device else {}),
        }

    def _graph(self) -> dict[str, Any]:
        if self._engine is not None and self._engine.no_graph:
            return {"cuda_graph": False, "no_cuda_graph_because": self._engine.no_graph}
        return {"cuda_graph": (self._engine is not None and self._engine.captured) or None}

    def close(self) -> None:
        """Release context, engine, memory and stream, in that order."""
        with self._cuda.active():
            stream = self._stream
            if stream is not None:
                with contextlib.suppress(UnsupportedTargetError):  # of a run that was broken off
                    self._cuda.synchronise(stream)
            context, self._context = self._context, None
            if context is not None:
                context.close()
            self._engine = self._runtime = None
            self._release()

    def _release(self) -> None:
        """Give back memory and stream."""
        stream, self._stream = self._stream, None
        buffers, self._buffers = self._buffers, {}
        for buffer in buffers.values():
            buffer.release()
        if stream is not None:
            self._cuda.close_stream(stream)

    def _open(self, engine: bytes) -> None:
        from .tensorrt_frames import TensorRTDeviceEngine

        trt = self._trt
        self._runtime = trt.Runtime(_logger(trt.Logger))
        if self._portable:
            self._runtime.engine_host_code_allowed = True
        if self._dla is not None:
            self._runtime.DLA_core = self._dla
        loaded = self._runtime.deserialize_cuda_engine(engine)
        if loaded is None:
            raise BundleError(
                f"{self._name} {trt.__version__} does not load engine.trt, for the reason that it "
                "printed above: build the engine again with this version."
            )
        self._engine = TensorRTDeviceEngine(
            self._cuda, trt, loaded, self._name, user_allocation=self._user_allocation
        )
        self.one_frame = (total_memory(self._device) or _SMALL_BYTES) < _SMALL_BYTES
        if not self._on_device:
            self._context = self._open_context()

    def _open_context(self) -> "EngineContext":
        """Make what `run` needs: a context, a stream, and memory for inputs and outputs."""
        from ..cuda import Buffer

        assert self._engine is not None  # a session does not run a closed backend
        context = self._engine.context()
        try:
            self._stream = self._cuda.stream()
            for name, (shape, dtype) in self._engine.tensors.items():
                self._buffers[name] = buffer = Buffer(self._cuda, pinned=True)
                buffer.reserve(math.prod(shape) * dtype.itemsize)
                context.bind(name, buffer.address)
        except BaseException:
            context.close()
            self._release()
            raise
        return context

    def _host(self, name: str) -> np.ndarray:
        """Return an input or output as the host sees it."""
        assert self._engine is not None  # as in `run`
        shape, dtype = self._engine.tensors[name]
        buffer = self._buffers[name]
        return buffer.array(0, buffer.size).view(dtype).reshape(shape)


@cache
def _logger(kind: Any) -> Any:
    """Return the one logger of a package.

    TensorRT keeps the first logger that it is given for all later runtimes, so it must not go with
    the session that was opened first.
    """
    return kind(kind.ERROR)
