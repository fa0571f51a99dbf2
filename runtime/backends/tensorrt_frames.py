"""A TensorRT engine and its contexts, as the CUDA layer takes them. Has not run on real hardware.

The backend executes in one context; each slot of a frame has one of its own.
"""

from typing import Any

import numpy as np

from ...core import BundleError, UnsupportedTargetError
from ..cuda import DeviceEngine, EngineContext

__all__ = ["TensorRTDeviceEngine"]


class TensorRTDeviceEngine(DeviceEngine):
    """A deserialised engine."""

    def __init__(self, trt: Any, engine: Any, name: str) -> None:
        """Read what an engine takes and gives.

        Args:
            trt: the package.
            engine: `ICudaEngine`.
            name: of the product, for messages.
        """
        self._engine, self._name = engine, name
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.tensors = {
            name: (
                tuple(engine.get_tensor_shape(name)),
                np.dtype(trt.nptype(engine.get_tensor_dtype(name))),
            )
            for name in names
        }

    def context(self) -> EngineContext:
        """Return a new execution context."""
        made = self._engine.create_execution_context()
        if made is None:
            raise UnsupportedTargetError(
                f"{self._name} could not prepare the engine on this GPU, for the reason that it "
                "printed above: free GPU memory, or run on target cpu."
            )
        return _Context(made, self._name)


class _Context(EngineContext):
    """An execution context; its name is TensorRT's, for messages."""

    def __init__(self, context: Any, name: str) -> None:
        self._context, self._name = context, name

    def bind(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise BundleError(f"engine.trt does not take memory for {name}: build it again.")

    def enqueue(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise UnsupportedTargetError(
                f"{self._name} could not execute the engine, for the reason that it printed above: "
                "build it again on this machine, or run on target cpu."
            )
