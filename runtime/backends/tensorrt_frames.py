"""A TensorRT engine as frames take it: a context for each slot. Has not run on real hardware."""

from typing import Any

from ...core import BundleError, UnsupportedTargetError
from ..cuda import DeviceEngine, EngineContext

__all__ = ["TensorRTDeviceEngine"]


class TensorRTDeviceEngine(DeviceEngine):
    """A deserialised engine, of which each slot of a frame makes a context."""

    def __init__(self, engine: Any, tensors: dict[str, Any], name: str) -> None:
        """Keep an engine, shape and type of its tensors, and the product's name for messages."""
        self._engine, self.tensors, self._name = engine, tensors, name

    def context(self) -> EngineContext:
        """Return a new execution context."""
        made = self._engine.create_execution_context()
        if made is None:
            raise UnsupportedTargetError(
                f"{self._name} could not prepare the engine a second time, for the reason that it "
                "printed above: free GPU memory, or load it without on_device."
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
