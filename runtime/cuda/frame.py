"""A batch of pictures on the device, from their bytes to the engine's outputs.

    pinned pictures ─▶ device ─▶ [taps, preprocess, interleave a picture] ─▶ engine
                                ─▶ [to_picture, paste a picture] ─▶ pinned outputs

All of it is queued on one stream and nothing waits: `submit` returns at once, and `collect` waits,
which is the frame's only synchronisation. There are two slots, each with memory, a stream and an
engine context of its own, so that a frame is uploaded while the one before it is computed.

When the same sizes of pictures come to a slot a second time, the whole frame is captured as a CUDA
graph, and replayed from then on: kernels are loaded and the engine is warm by then, and pictures
that never repeat a size pay for no capture. Buffers only grow; when one does, the slot's graphs,
which hold addresses, are dropped. Nothing is allocated inside a frame of sizes that were seen.

Not every engine can be captured: TensorRT-RTX's cannot if it allocates while it runs, as some
control flow does. So the engine is asked first; where it says no, or a capture fails, the same work
is queued piece by piece from then on, by every slot, and `DeviceEngine.no_graph` says why.

Tested on the CPU through `host.py`; has not run on real hardware.
"""

import abc
import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core import InputSpec, UnsupportedTargetError, UsageError
from ...core.masks import MaskPaste
from ...plugins.launch import LaunchPlan
from ..letterbox import Placement, placement
from ..packed import PackedMasks
from . import plans
from .buffer import Buffer, offsets, room_for
from .contract import Cuda, Graph

__all__ = ["DeviceEngine", "EngineContext", "FrameSlots", "Frames"]

_GRAPHS = 4  # a slot's, of different sizes of pictures
Sizes = tuple[tuple[int, int], ...]


class EngineContext(abc.ABC):
    """One execution of an engine at a time, on memory that is bound to it."""

    @abc.abstractmethod
    def bind(self, name: str, address: int) -> None:
        """Say where an input or output lies."""

    @abc.abstractmethod
    def enqueue(self, stream: int) -> None:
        """Queue the engine on a stream, by its handle; after the first time, also in a capture."""

    def is_capturable(self, stream: int) -> bool:
        """Whether the engine says that a capture of that stream may hold it."""
        return True

    def close(self) -> None:  # noqa: B027  # most hold nothing
        """Release what the context holds, once nothing of it is queued."""


class DeviceEngine(abc.ABC):
    """An engine on the device.

    Attributes:
        tensors: shape and type of the input `images` and of every output.
        captured: some frame of it is a CUDA graph.
        no_graph: why none will be, or empty.
    """

    tensors: dict[str, tuple[tuple[int, ...], np.dtype]]
    captured: bool = False
    no_graph: str = ""

    @abc.abstractmethod
    def context(self) -> EngineContext:
        """Return a context of its own."""


@dataclass(frozen=True)
class Frames:
    """What `collect` returns.

    Attributes:
        outputs: of the engine, the caller's to keep.
        places: of the pictures on their canvases.
        masks: of each picture, if the slots paste; else None for each.
    """

    outputs: dict[str, np.ndarray]
    places: list[Placement]
    masks: list[PackedMasks | None]


@dataclass
class _Work:
    """A captured or not yet captured frame of some sizes."""

    kernels: dict[str, Any] = field(default_factory=dict)
    graph: Graph | None = None
    seen: int = 0


class _Slot:
    """One frame in flight."""

    def __init__(
        self, cuda: Cuda, engine: DeviceEngine, spec: InputSpec, *, paste: MaskPaste | None
    ) -> None:
        self._cuda, self._engine, self._spec = cuda, engine, spec
        self._paste = paste if "masks" in engine.tensors else None
        self._pictures = Buffer(cuda, pinned=True)
        self._pasted = Buffer(cuda, pinned=True)
        self._scratch = Buffer(cuda, pinned=False)
        self._fixed = {name: Buffer(cuda, pinned=name != "images") for name in engine.tensors}
        self._works: dict[Sizes, _Work] = {}
        self._sizes: Sizes | None = None
        with contextlib.ExitStack() as undo:  # nothing is left should memory run out
            self._stream = cuda.stream()
            undo.callback(cuda.close_stream, self._stream)
            self._context = engine.context()
            undo.callback(self._context.close)
            for name, (shape, dtype) in engine.tensors.items():
                undo.callback(self._fixed[name].release)
                self._fixed[name].reserve(math.prod(shape) * np.dtype(dtype).itemsize)
                self._context.bind(name, self._fixed[name].address)
            undo.pop_all()

    @property
    def is_busy(self) -> bool:
        return self._sizes is not None

    def submit(self, pictures: Sequence[np.ndarray]) -> None:
        sizes = tuple((p.shape[0], p.shape[1]) for p in pictures)
        self._reserve(sizes)
        for offset, picture in zip(offsets(_picture_bytes(sizes)), pictures, strict=False):
            np.copyto(self._pictures.array(offset, picture.size), picture.reshape(-1))
        work = self._works.pop(sizes, None) or _Work()
        self._works[sizes] = work  # the latest last
        if work.graph is None and work.seen and not self._engine.no_graph:
            work.graph = self._captured(sizes, work)
        try:
            if work.graph is not None:
                self._cuda.replay(work.graph, self._stream)
            else:
                self._queue(sizes, work)
        except BaseException:
            self._wait_for_the_rest()
            raise
        work.seen += 1
        self._sizes = sizes
        while len(self._works) > _GRAPHS:
            self._drop(next(iter(self._works)))

    def _wait_for_the_rest(self) -> None:
        """Wait for what was queued of a frame that failed: the next one uses the same memory."""
        with contextlib.suppress(UnsupportedTargetError):  # the reason is already on its way
            self._cuda.synchronise(self._stream)

    def _captured(self, sizes: Sizes, work: _Work) -> Graph | None:
        """Return the frame as a graph, or None and note why there will be none."""
        engine = self._engine
        if not self._cuda.can_capture:
            engine.no_graph = "this CUDA driver is too old for graphs"
        elif not self._context.is_capturable(self._cuda.handle(self._stream)):
            engine.no_graph = "the engine says that it cannot be captured"
        else:
            try:
                graph = self._cuda.capture(lambda: self._queue(sizes, work), self._stream)
            except (UnsupportedTargetError, RuntimeError) as error:  # the driver's are the latter
                engine.no_graph = f"a capture failed: {error}"
            else:
                engine.captured = True
                return graph
        return None

    def collect(self) -> Frames:
        assert self._sizes is not None  # FrameSlots asks of busy ones alone
        sizes, self._sizes = self._sizes, None
        self._cuda.synchronise(self._stream)
        outputs = {}
        for name, (shape, dtype) in self._engine.tensors.items():
            if name != "images":
                size = math.prod(shape) * np.dtype(dtype).itemsize
                outputs[name] = self._fixed[name].array(0, size).view(dtype).reshape(shape).copy()
        masks = self._masks(sizes, outputs["count"])
        return Frames(outputs, [placement(*size, self._spec) for size in sizes], masks)

    def close(self) -> None:
        with contextlib.ExitStack() as left:  # a lost device refuses; the rest is tried, too
            left.callback(self._cuda.close_stream, self._stream)
            for buffer in (self._pictures, self._pasted, self._scratch, *self._fixed.values()):
                left.callback(buffer.release)
            left.callback(self._context.close)
            for sizes in list(self._works):
                left.callback(self._drop, sizes)
            if self.is_busy:
                left.callback(self._cuda.synchronise, self._stream)

    def _reserve(self, sizes: Sizes) -> None:
        """Make room for pictures of these sizes, before anything is queued."""
        needed = [
            (self._pictures, room_for(_picture_bytes(sizes))),
            (self._scratch, max(self._scratch_bytes(size) for size in sizes)),
        ]
        if self._paste:
            needed.append((self._pasted, room_for(self._pasted_bytes(sizes))))
        if any(size > buffer.size for buffer, size in needed):
            self._forget()  # first: should memory run out, no graph may hold what was freed
        for buffer, size in needed:
            buffer.reserve(size)

    def _queue(self, sizes: Sizes, work: _Work) -> None:
        """Queue the whole frame."""
        stream, spec = self._stream, self._spec
        picture_bytes = _picture_bytes(sizes)
        for index, (offset, size) in enumerate(
            zip(offsets(picture_bytes), picture_bytes, strict=True)
        ):
            address = self._pictures.address + offset
            self._cuda.upload(address, self._pictures.array(offset, size), stream)
            canvas = math.prod(spec.shape[1:])
            self._launch(
                work, [plans.preprocess(spec, *sizes[index]), plans.interleave(spec)],
                {"image": address, "images": self._fixed["images"].address + index * canvas},
            )  # fmt: skip
        self._context.enqueue(self._cuda.handle(stream))
        if self._paste is not None:
            self._queue_paste(sizes, work, self._paste)
        for name, buffer in self._fixed.items():
            if name != "images":
                self._cuda.download(buffer.array(0, buffer.size), buffer.address, stream)

    def _queue_paste(self, sizes: Sizes, work: _Work, rule: MaskPaste) -> None:
        _, slots, side, _ = self._engine.tensors["masks"][0]
        pasted_bytes = self._pasted_bytes(sizes)
        for index, (offset, size) in enumerate(
            zip(offsets(pasted_bytes), pasted_bytes, strict=True)
        ):
            place = placement(*sizes[index], self._spec)
            mapped = self._scratch.address
            boxes = self._fixed["boxes"].address + index * slots * 16
            self._launch(
                work, [plans.to_picture(slots, place.image_size, place.canvas_size)],
                {"boxes": boxes, "mapped": mapped},
            )  # fmt: skip
            self._launch(
                work, [plans.paste(slots, side, *sizes[index], rule)],
                {
                    "probabilities": self._fixed["masks"].address + index * slots * side * side * 4,
                    "boxes": mapped,
                    "masks": self._pasted.address + offset,
                },
            )  # fmt: skip
            target = self._pasted.array(offset, size)
            self._cuda.download(target, self._pasted.address + offset, self._stream)

    def _launch(self, work: _Work, chain: list[LaunchPlan], given: dict[str, int]) -> None:
        """Queue plans one after the other; what is not `given` lies in the scratch memory."""
        places = dict(given)
        scratch = _scratch_of(chain, given)
        for name, offset in zip(scratch, offsets(list(scratch.values())), strict=False):
            places[name] = self._scratch.address + offset
        for plan in chain:
            addresses = {name: places[name] for name in plan.tensors}
            key = "+".join(stage.entry for stage in plan.stages)
            if key not in work.kernels:
                work.kernels[key] = self._cuda.prepare(plan)
            self._cuda.launch(work.kernels[key], plan, addresses, self._stream)

    def _scratch_bytes(self, size: tuple[int, int]) -> int:
        chain = [plans.preprocess(self._spec, *size), plans.interleave(self._spec)]
        sizes = [list(_scratch_of(chain, {"image": 0, "images": 0}).values())]
        if self._paste:
            slots = self._engine.tensors["masks"][0][1]
            sizes.append([slots * 16])
        return max(room_for(of_chain) for of_chain in sizes)

    def _pasted_bytes(self, sizes: Sizes) -> list[int]:
        slots = self._engine.tensors["masks"][0][1]
        return [slots * height * -(-width // 32) * 4 for height, width in sizes]

    def _masks(self, sizes: Sizes, counts: np.ndarray) -> list[PackedMasks | None]:
        if not self._paste:
            return [None for _ in sizes]
        slots = self._engine.tensors["masks"][0][1]
        found: list[PackedMasks | None] = []
        pasted_bytes = self._pasted_bytes(sizes)
        for index, (offset, size) in enumerate(
            zip(offsets(pasted_bytes), pasted_bytes, strict=True)
        ):
            words = self._pasted.array(offset, size).view("<i4")
            words = words.reshape(slots, sizes[index][0], -1)[: int(counts[index])]
            found.append(PackedMasks(words.copy(), sizes[index][1]))
        return found

    def _forget(self) -> None:
        for sizes in list(self._works):
            self._drop(sizes)

    def _drop(self, sizes: Sizes) -> None:
        graph = self._works.pop(sizes).graph
        if graph is not None:
            self._cuda.drop_graph(graph)


class FrameSlots:
    """Frames in flight, collected in the order in which they were submitted."""

    def __init__(
        self,
        cuda: Cuda,
        engine: DeviceEngine,
        spec: InputSpec,
        *,
        slots: int = 2,
        paste: MaskPaste | None = None,
    ) -> None:
        """Allocate everything but what depends on the pictures' sizes.

        Args:
            cuda: the device.
            engine: on that device; its batch is the most pictures of a frame.
            spec: of the engine's input.
            slots: frames in flight at most.
            paste: how masks are pasted on the device, to be downloaded packed, 32 pixels a word;
                None leaves that to the host.
        """
        self.depth = slots
        self._cuda, self._spec = cuda, spec
        self._slots: list[_Slot] = []
        self._next = 0
        self._waiting: list[_Slot] = []
        try:
            with cuda.active():
                for _ in range(slots):
                    self._slots.append(_Slot(cuda, engine, spec, paste=paste))
        except BaseException:
            self.close()
            raise

    def submit(self, pictures: Sequence[np.ndarray]) -> None:
        """Queue a frame of 1 to `spec.batch` pictures, uint8 `[H, W, 3]`, of any sizes.

        Raises:
            UsageError: too many pictures, or all slots are in flight.
        """
        if not 1 <= len(pictures) <= self._spec.batch:
            raise UsageError(f"a frame has 1 to {self._spec.batch} pictures, not {len(pictures)}.")
        if len(self._waiting) == self.depth:
            raise UsageError(f"{self.depth} frames are in flight: collect one first.")
        slot = self._slots[self._next]
        with self._cuda.active():
            slot.submit(pictures)
        self._next = (self._next + 1) % self.depth  # after it succeeded: the next may be busy
        self._waiting.append(slot)

    def collect(self) -> Frames:
        """Wait for the oldest frame in flight."""
        if not self._waiting:
            raise UsageError("no frame is in flight: submit one first.")
        with self._cuda.active():
            return self._waiting.pop(0).collect()

    def close(self) -> None:
        """Release everything; closing twice does nothing."""
        slots, self._slots = self._slots, []
        self._waiting = []
        with self._cuda.active(), contextlib.ExitStack() as left:
            for slot in slots:
                left.callback(slot.close)


def _picture_bytes(sizes: Sizes) -> list[int]:
    return [height * width * 3 for height, width in sizes]


def _scratch_of(chain: Sequence[LaunchPlan], given: dict[str, int]) -> dict[str, int]:
    """Return the bytes of the tensors of a chain of plans that are not given from outside."""
    return {
        name: tensor.size * np.dtype(tensor.dtype).itemsize
        for plan in chain
        for name, tensor in plan.tensors.items()
        if name not in given
    }
