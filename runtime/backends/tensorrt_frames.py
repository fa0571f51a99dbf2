"""A TensorRT engine and its contexts, as the CUDA layer takes them. Has not run on real hardware.

The backend executes in one context; each slot of a frame has one of its own.

An engine of TensorRT-RTX that is to be captured is built with `REQUIRE_USER_ALLOCATION`: it then
allocates nothing while it runs, and the memory for its activations is given to each context
(`ExecutionContextAllocationStrategy.USER_MANAGED`, `set_device_memory`), at least
`device_memory_size_v2` bytes, aligned to 256. Other engines allocate their own.
"""

from typing import Any

import numpy as np

from ...core import BundleError, UnsupportedTargetError
from ..cuda import Buffer, Cuda, DeviceEngine, EngineContext

__all__ = ["TensorRTDeviceEngine"]

_LEAST_BYTES = 256  # an engine may need none, and the address has to be one


class TensorRTDeviceEngine(DeviceEngine):
    """A deserialised engine."""

    def __init__(
        self, cuda: Cuda, trt: Any, engine: Any, name: str, *, user_allocation: bool = False
    ) -> None:
        """Read what an engine takes and gives.

        Args:
            cuda: the device that it is on.
            trt: the package.
            engine: `ICudaEngine`.
            name: of the product, for messages.
            user_allocation: it was built with `REQUIRE_USER_ALLOCATION`.
        """
        self._cuda, self._trt, self._engine, self._name = cuda, trt, engine, name
        self._user_allocation = user_allocation
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.tensors = {
            name: (
                tuple(engine.get_tensor_shape(name)),
                np.dtype(trt.nptype(engine.get_tensor_dtype(name))),
            )
            for name in names
        }

    def context(self) -> EngineContext:
        """Return a new execution context, with memory of its own."""
        memory = Buffer(self._cuda, pinned=False)
        if not self._user_allocation:
            return _Context(self._made(), memory, self._name)
        made = self._made(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        memory.reserve(max(self._engine.device_memory_size_v2, _LEAST_BYTES))
        made.set_device_memory(memory.address, memory.size)
        return _Context(made, memory, self._name)

    def _made(self, *strategy: Any) -> Any:
        made = self._engine.create_execution_context(*strategy)
        if made is None:
            raise UnsupportedTargetError(
                f"{self._name} could not prepare the engine on this GPU, for the reason that it "
                "printed above: free GPU memory, or run on target cpu."
            )
        return made


class _Context(EngineContext):
    """An execution context and its memory; its name is TensorRT's, for messages."""

    def __init__(self, context: Any, memory: Buffer, name: str) -> None:
        self._context, self._memory, self._name = context, memory, name

    def bind(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise BundleError(f"engine.trt does not take memory for {name}: build it again.")

    def enqueue(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise UnsupportedTargetError(
                f"{self._name} could not execute the engine, for the reason that it printed above: "
                "build it again on this machine, or run on target cpu."
            )

    def is_capturable(self, stream: int) -> bool:
        asked = getattr(self._context, "is_stream_capturable", None)  # TensorRT-RTX, from 1.2 on
        return asked is None or bool(asked(stream))

    def close(self) -> None:
        self._context = None
        self._memory.release()
