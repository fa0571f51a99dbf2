"""What is needed of CUDA, as one contract over whichever package provides it.

Everything that names a stream is queued on it and returns at once; `synchronise` alone waits.
Memory, streams and graphs belong to a device's primary context, which the CUDA runtime, TensorRT
and PyTorch share. CUDA keeps the current context a thread, so work is done inside `active()`, from
any thread.

A capture records what is queued on its stream instead of running it, with the addresses and numbers
of that moment; `replay` queues all of it as one. Nothing may be allocated, freed or waited for
while a capture is on.
"""

import abc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core import MaskrtError, UnsupportedTargetError
from ...plugins.launch import LaunchPlan

__all__ = ["Cuda", "Graph", "Pinned", "driver_calls", "failure"]

Graph = Any
Stream = Any


@dataclass(frozen=True)
class Pinned:
    """Page-locked host memory.

    Attributes:
        array: uint8, as long as was asked for.
        keep: what the adapter needs to release it.
    """

    array: np.ndarray
    keep: Any = None


class Cuda(abc.ABC):
    """A device's memory, streams, graphs and kernels."""

    can_capture: bool = True

    @abc.abstractmethod
    def active(self) -> AbstractContextManager[None]:
        """Make the device current on this thread while the `with` block runs."""

    @abc.abstractmethod
    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes on the device, aligned to 256."""

    @abc.abstractmethod
    def free(self, address: int) -> None:
        """Release device memory."""

    @abc.abstractmethod
    def pin(self, size: int) -> Pinned:
        """Return page-locked host memory."""

    @abc.abstractmethod
    def unpin(self, memory: Pinned) -> None:
        """Release it; its array must not be used afterwards."""

    @abc.abstractmethod
    def stream(self) -> Stream:
        """Open a stream."""

    @abc.abstractmethod
    def handle(self, stream: Stream) -> int:
        """Return the stream's handle, as TensorRT takes it."""

    @abc.abstractmethod
    def close_stream(self, stream: Stream) -> None:
        """Close a stream."""

    @abc.abstractmethod
    def upload(self, address: int, source: np.ndarray, stream: Stream) -> None:
        """Queue a copy from (a part of) pinned memory to the device."""

    @abc.abstractmethod
    def download(self, target: np.ndarray, address: int, stream: Stream) -> None:
        """Queue a copy from the device to (a part of) pinned memory."""

    @abc.abstractmethod
    def synchronise(self, stream: Stream) -> None:
        """Wait until all that was queued on the stream is done."""

    @abc.abstractmethod
    def capture(self, work: Callable[[], None], stream: Stream) -> Graph:
        """Record what `work` queues on the stream, without running it."""

    @abc.abstractmethod
    def replay(self, graph: Graph, stream: Stream) -> None:
        """Queue all of a graph."""

    @abc.abstractmethod
    def drop_graph(self, graph: Graph) -> None:
        """Release a graph."""

    @abc.abstractmethod
    def prepare(self, plan: LaunchPlan) -> Any:
        """Compile and load the kernels of a plan, or find them loaded."""

    @abc.abstractmethod
    def launch(
        self, kernels: Any, plan: LaunchPlan, addresses: Mapping[str, int], stream: Stream
    ) -> None:
        """Queue every stage of a plan whose kernels were prepared."""


def failure(action: str, reason: object) -> str:
    """Return the sentence for a call that failed; `action` is the end of "CUDA could not ..."."""
    return (
        f"CUDA could not {action} ({reason}): check the GPU's free memory and driver with "
        "nvidia-smi, or run on target cpu."
    )


@contextmanager
def driver_calls(action: str) -> Iterator[None]:
    """Turn what `plugins.adapters.cuda_driver` raises in the driver's words into one sentence."""
    try:
        yield
    except MaskrtError:
        raise
    except RuntimeError as error:
        raise UnsupportedTargetError(failure(action, error)) from error
