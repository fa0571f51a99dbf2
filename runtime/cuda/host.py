"""The contract on the CPU, for tests: kernels run from the same source, by the host adapter.

It is stricter than a device. What is queued on a stream runs no sooner than `synchronise`, so
whoever reads too early reads the pattern 0xFF; and it raises `HostFaultError` for
    * memory that is allocated, freed or waited for while a capture is on,
    * a copy or kernel that reaches beyond an allocation, or memory that was freed,
    * a copy from or to host memory that is not pinned,
    * memory or streams that are left when it is closed.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...core import UnsupportedTargetError
from ...plugins.adapters.host import launch_stage_on_host
from ...plugins.launch import LaunchPlan
from .contract import Cuda, Graph, Pinned, failure

__all__ = ["HostCuda", "HostFaultError"]

_ALIGNMENT = 256
_PATTERN = 0xFF
_kernels_turn = threading.Lock()  # the host adapter runs one kernel at a time

Work = Callable[[], None]


class HostFaultError(AssertionError):
    """Something that a device would crash on, or do wrong without a word."""


class _Stream:
    """What was queued, and where a capture records it."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.queued: list[Work] = []
        self.recorded: list[Work] | None = None


class HostCuda(Cuda):
    """Device memory is host memory, a kernel is a function, a stream is a list.

    Attributes:
        calls: what was asked for, by name, in order; the tests read it.
        left: how many more blocks, pinned blocks and streams there are; None for any number.
    """

    def __init__(self) -> None:
        """Start with nothing allocated."""
        self.calls: list[str] = []
        self.left: int | None = None
        self._blocks: dict[int, np.ndarray] = {}
        self._pinned: dict[int, np.ndarray] = {}
        self._streams: dict[int, _Stream] = {}
        self._active = threading.local()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Note that this thread may work."""
        before = getattr(self._active, "depth", 0)
        self._active.depth = before + 1
        try:
            yield
        finally:
            self._active.depth = before

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes."""
        self._note("allocate", during_capture=False)
        self._take(f"allocate {size} bytes")
        raw = np.full(size + _ALIGNMENT, _PATTERN, np.uint8)
        start = -raw.ctypes.data % _ALIGNMENT
        block = raw[start : start + size]
        self._blocks[block.ctypes.data] = block
        return int(block.ctypes.data)

    def free(self, address: int) -> None:
        """Release a block."""
        self._note("free", during_capture=False)
        if self._blocks.pop(address, None) is None:
            raise HostFaultError(f"{address:#x} is freed, and was not allocated.")

    def pin(self, size: int) -> Pinned:
        """Return host memory that copies accept."""
        self._note("pin", during_capture=False)
        self._take(f"lock {size} bytes")
        array = np.full(size, _PATTERN, np.uint8)
        self._pinned[array.ctypes.data] = array
        return Pinned(array)

    def unpin(self, memory: Pinned) -> None:
        """Release it."""
        self._note("unpin", during_capture=False)
        del self._pinned[memory.array.ctypes.data]

    def stream(self) -> _Stream:
        """Open a stream."""
        self._note("stream", during_capture=False)
        self._take("open a stream")
        made = _Stream(1000 + len(self.calls))
        self._streams[made.handle] = made
        return made

    def handle(self, stream: _Stream) -> int:
        """Return the stream's handle."""
        return stream.handle

    def close_stream(self, stream: _Stream) -> None:
        """Close a stream."""
        self._note("close_stream", during_capture=False)
        del self._streams[stream.handle]

    def upload(self, address: int, source: np.ndarray, stream: _Stream) -> None:
        """Queue a copy to a block."""
        self._check_pinned(source)
        self._check_block(address, source.nbytes)
        self.queue(
            lambda: _copy(address, source.ctypes.data, source.nbytes), stream.handle, "upload"
        )

    def download(self, target: np.ndarray, address: int, stream: _Stream) -> None:
        """Queue a copy from a block."""
        self._check_pinned(target)
        self._check_block(address, target.nbytes)
        self.queue(
            lambda: _copy(target.ctypes.data, address, target.nbytes), stream.handle, "download"
        )

    def synchronise(self, stream: _Stream) -> None:
        """Run what was queued."""
        self._note("synchronise", during_capture=False)
        queued, stream.queued = stream.queued, []
        for work in queued:
            work()

    def capture(self, work: Work, stream: _Stream) -> Graph:
        """Record what `work` queues."""
        self._note("capture", during_capture=False)
        stream.recorded = []
        try:
            work()
            return list(stream.recorded)
        finally:
            stream.recorded = None

    def replay(self, graph: Graph, stream: _Stream) -> None:
        """Queue all of a graph."""
        self._note("replay", during_capture=False)
        stream.queued += graph

    def drop_graph(self, graph: Graph) -> None:
        """Empty a graph: replaying it later does nothing, and shows in the results."""
        self._note("drop_graph", during_capture=False)
        graph.clear()

    def prepare(self, plan: LaunchPlan) -> Any:
        """Kernels are compiled when they run."""
        self._note("prepare", during_capture=False)
        return {stage.entry for stage in plan.stages}

    def launch(
        self, kernels: Any, plan: LaunchPlan, addresses: Mapping[str, int], stream: _Stream
    ) -> None:
        """Queue every stage of a plan."""
        for name, tensor in plan.tensors.items():
            self._check_block(addresses[name], tensor.size * np.dtype(tensor.dtype).itemsize)
        given = dict(addresses)
        for stage in plan.working_stages:
            if stage.entry not in kernels:
                raise HostFaultError(f"{stage.entry} was not prepared.")
            places = {n: ctypes.c_void_p(given[n]) for n in (*stage.inputs, *stage.outputs)}

            def run(stage: Any = stage, places: Any = places) -> None:
                with _kernels_turn:
                    launch_stage_on_host(plan, stage, places)

            self.queue(run, stream.handle, stage.entry)

    def queue(self, work: Work, handle: int, name: str) -> None:
        """Queue any work on the stream of that handle, or record it; a stand-in engine does so."""
        stream = self._streams.get(handle)
        if stream is None:
            raise HostFaultError(f"{name} on a stream that is not open.")
        self._note(name, during_capture=True)
        (stream.queued if stream.recorded is None else stream.recorded).append(work)

    def is_capturing(self, handle: int) -> bool:
        """Whether a capture of that stream is on, for a stand-in engine that minds."""
        return self._streams[handle].recorded is not None

    def view(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return a block's content as an array, for a stand-in engine."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._check_block(address, size)
        raw = (ctypes.c_uint8 * size).from_address(address)
        return np.frombuffer(memoryview(raw), dtype).reshape(shape)

    def close(self) -> None:
        """Raise if anything is left."""
        left = (len(self._blocks), len(self._pinned), len(self._streams))
        if any(left):
            raise HostFaultError("{} blocks, {} pinned, {} streams are left.".format(*left))

    def _note(self, name: str, *, during_capture: bool) -> None:
        if not getattr(self._active, "depth", 0):
            raise HostFaultError(f"{name} on a thread without a current device.")
        if not during_capture and any(s.recorded is not None for s in self._streams.values()):
            raise HostFaultError(f"{name} while a capture is on.")
        self.calls.append(name)

    def _take(self, action: str) -> None:
        if self.left == 0:
            raise UnsupportedTargetError(failure(action, "out of memory"))
        self.left = None if self.left is None else self.left - 1

    def _check_block(self, address: int, size: int) -> None:
        for start, block in self._blocks.items():
            if start <= address and address + size <= start + block.nbytes:
                return
        raise HostFaultError(f"{size} bytes at {address:#x} are in no allocation.")

    def _check_pinned(self, array: np.ndarray) -> None:
        at = array.ctypes.data
        for start, memory in self._pinned.items():
            if start <= at and at + array.nbytes <= start + memory.nbytes:
                return
        raise HostFaultError("a copy from or to memory that is not pinned.")


def _copy(target: int, source: int, size: int) -> None:
    ctypes.memmove(target, source, size)
