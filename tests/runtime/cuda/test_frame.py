"""Whole frames of the device's code path on the CPU: the real kernels, and ONNX Runtime as engine.

`HostCuda` runs the kernels from their CUDA source under their launch plans, later than a device
would, and refuses what a device would not survive; the CPU session is the independent reference.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskrt.core import InputSpec, UnsupportedTargetError, UsageError
from maskrt.core.masks import MaskPaste
from maskrt.runtime import Session
from maskrt.runtime.backends.cpu import CpuBackend
from maskrt.runtime.cuda import FrameSlots
from maskrt.runtime.cuda.host import HostCuda, HostFaultError
from maskrt.runtime.postprocess import instances_of

from .host_engine import HostContext, HostEngine

SPEC = InputSpec(40, 64, batch=2)
BOXES = [[3.25, 2.5, 30.75, 38], [50.5, 4, 64, 39.5], [-6, -4, 20, 12]]


class OnnxEngine(HostEngine):
    """ONNX Runtime in the engine's place."""

    def __init__(self, cuda: HostCuda, engine: bytes, spec: InputSpec = SPEC) -> None:
        super().__init__(cuda, CpuBackend(engine, threads=1), spec)


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    y, x = np.mgrid[:28, :28]
    centres = np.array([[14, 14], [9, 18], [18, 8]])
    distance = np.hypot(y - centres[:, 0, None, None], x - centres[:, 1, None, None])
    return (1 / (1 + np.exp(distance - 9))).astype(np.float32)


@pytest.fixture
def engine(make_engine: Callable[..., bytes], masks: np.ndarray) -> bytes:
    pytest.importorskip("onnxruntime")
    return make_engine(SPEC, BOXES, [1, 2, 1], masks)


@pytest.fixture
def cuda() -> Iterator[HostCuda]:
    made = HostCuda()
    yield made
    made.close()


@pytest.fixture(params=[None, *MaskPaste], ids=["lazy", "torchvision", "detectron2"])
def paste(request: Any) -> MaskPaste | None:
    """How the device pastes; None leaves it to the host."""
    chosen: MaskPaste | None = request.param
    return chosen


@pytest.fixture
def slots(cuda: HostCuda, engine: bytes, paste: MaskPaste | None) -> Iterator[FrameSlots]:
    made = FrameSlots(cuda, OnnxEngine(cuda, engine), SPEC, paste=paste)
    yield made
    made.close()
    made.close()


@pytest.fixture
def reference(engine: bytes, paste: MaskPaste | None) -> Iterator[Session]:
    rule = paste or MaskPaste.TORCHVISION
    with Session(CpuBackend(engine, threads=1), SPEC, mask_paste=rule) as session:
        yield session


def pictures(*sizes: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def check(slots: FrameSlots, reference: Session, shown: list[np.ndarray]) -> None:
    """Collect a frame, and compare it with the CPU's predictions."""
    frames = slots.collect()
    for index, expected in enumerate(reference.predict(shown)):
        place, pasted = frames.places[index], frames.masks[index]
        found = instances_of(frames.outputs, index, place, masks=pasted)
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        # The score is the canvas' mean: equal only if the letterboxed pixels are.
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
        assert found.masks is not None
        assert expected.masks is not None
        assert expected.masks.any()
        assert found.masks.shape == expected.masks.shape
        # The CPU's products are BLAS's: a pixel within an ulp of 0.5 may part. None did here.
        assert (found.masks != expected.masks).mean() < 1e-4
        for crop, other in zip(found.crops or (), expected.crops or (), strict=True):
            assert abs(int(crop.inside.sum()) - int(other.inside.sum())) <= 1


SIZES = [
    [(40, 64), (40, 64)], [(97, 33), (20, 90)], [(97, 33), (20, 90)], [(5, 7)], [(1, 1), (130, 3)],
    [(97, 33), (20, 90)], [(64, 65)],
]  # fmt: skip


def test_frames_of_every_size_are_the_cpus(slots: FrameSlots, reference: Session) -> None:
    for seed, sizes in enumerate(SIZES):
        shown = pictures(*sizes, seed=seed)
        slots.submit(shown)
        check(slots, reference, shown)


def test_two_frames_in_flight(slots: FrameSlots, reference: Session) -> None:
    shown = [pictures((30 + i % 2, 50), seed=i) for i in range(8)]
    slots.submit(shown[0])
    for before, now in itertools.pairwise(shown):
        slots.submit(now)
        check(slots, reference, before)
    check(slots, reference, shown[-1])


def test_a_graph_is_captured_when_sizes_repeat(
    slots: FrameSlots, reference: Session, cuda: HostCuda
) -> None:
    for index in range(8):
        cuda.calls.clear()
        shown = pictures((30, 50), (20, 20), seed=index)
        slots.submit(shown)
        check(slots, reference, shown)
        if index >= 4:  # both slots have captured theirs
            assert cuda.calls == ["replay", "synchronise"]
    assert "capture" not in cuda.calls


def test_a_frame_of_known_sizes_allocates_nothing_and_waits_once(
    slots: FrameSlots, cuda: HostCuda
) -> None:
    """Sizes below the largest seen: no buffer grows, even when there is no graph yet."""
    for _ in range(2):
        slots.submit(pictures((90, 90), (90, 90)))
        slots.collect()
    cuda.calls.clear()
    slots.submit(pictures((60, 61), (20, 30)))
    slots.collect()
    assert not {"allocate", "free", "pin", "unpin", "stream"} & set(cuda.calls)
    assert cuda.calls.count("synchronise") == 1
    assert cuda.calls[-1] == "synchronise"


def test_growing_buffers_drop_graphs_that_hold_their_addresses(
    slots: FrameSlots, reference: Session, cuda: HostCuda
) -> None:
    small, large = pictures((20, 20)), pictures((150, 160))
    for shown in (small, small, small, small, large, large, small, small, small, small):
        slots.submit(shown)
        check(slots, reference, shown)
    assert cuda.calls.count("drop_graph") == 2
    assert cuda.calls.count("capture") == 4


def test_few_graphs_are_kept(slots: FrameSlots, cuda: HostCuda) -> None:
    for side in (90, *range(10, 20)):
        for _ in range(4):
            slots.submit(pictures((side, side)))
            slots.collect()
    assert cuda.calls.count("capture") - cuda.calls.count("drop_graph") <= 8


def test_without_graphs_the_same_work_is_queued(
    engine: bytes, cuda: HostCuda, reference: Session, paste: MaskPaste | None
) -> None:
    cuda.can_capture = False
    slots = FrameSlots(cuda, OnnxEngine(cuda, engine), SPEC, paste=paste)
    for seed in range(6):
        shown = pictures((31, 44), seed=seed)
        slots.submit(shown)
        check(slots, reference, shown)
    assert not {"capture", "replay"} & set(cuda.calls)
    slots.close()


def _until_it_succeeds(cuda: HostCuda, work: Callable[[], Any]) -> int:
    """Let `work` run out of memory at each of its allocations in turn; return how many it has."""
    cuda.left = allocations = 0
    while True:
        try:
            work()
        except UnsupportedTargetError:
            allocations += 1
            cuda.left = allocations
        else:
            cuda.left = None
            return allocations


def test_out_of_memory_when_opened_leaves_nothing(
    cuda: HostCuda, engine: bytes, paste: MaskPaste | None
) -> None:
    made = OnnxEngine(cuda, engine)

    def work() -> None:
        try:
            FrameSlots(cuda, made, SPEC, paste=paste).close()
        finally:
            cuda.close()  # raises if anything is left

    # a stream, the pictures on the device, and boxes, scores, labels, masks, count on both sides
    assert _until_it_succeeds(cuda, work) == 2 * (1 + 1 + 5 * 2)


def test_out_of_memory_in_a_frame_leaves_slots_that_work(
    slots: FrameSlots, reference: Session, cuda: HostCuda
) -> None:
    """A smaller frame in the other slot stays in order, and graphs of freed memory are gone."""
    small, larger = pictures((20, 20)), pictures((150, 160), (9, 9))
    for _ in range(6):
        slots.submit(small)
        check(slots, reference, small)
    slots.submit(small)
    assert _until_it_succeeds(cuda, lambda: slots.submit(larger)) >= 3
    check(slots, reference, small)
    check(slots, reference, larger)
    for _ in range(6):
        slots.submit(small)
        check(slots, reference, small)


@pytest.mark.parametrize("broken", [0, 1])
def test_a_frame_that_failed_half_queued_is_not_mixed_with_the_next(
    slots: FrameSlots, reference: Session, broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [pictures((30, 50), (20, 20), seed=seed) for seed in range(4)]
    slots.submit(shown[0])
    failing = iter([True] if broken == 0 else [False, True, True])  # also in a capture
    queued = HostContext.enqueue

    def enqueue(context: HostContext, stream: int) -> None:
        queued(context, stream)
        if next(failing, False):
            raise UnsupportedTargetError("no.")

    monkeypatch.setattr(HostContext, "enqueue", enqueue)
    if broken:
        slots.submit(shown[1])
        check(slots, reference, shown[0])
        with pytest.raises(UnsupportedTargetError):
            slots.submit(shown[2])
        check(slots, reference, shown[1])
    else:
        with pytest.raises(UnsupportedTargetError):
            slots.submit(shown[1])
        check(slots, reference, shown[0])
    slots.submit(shown[3])
    slots.submit(shown[0])
    check(slots, reference, shown[3])
    check(slots, reference, shown[0])


@pytest.mark.parametrize("call", ["synchronise", "drop_graph", "unpin", "free", "close_stream"])
def test_what_a_device_refuses_at_the_end_keeps_nothing_else(
    cuda: HostCuda, engine: bytes, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call fails once; all the rest is given back, and the failure is said."""
    slots, shown = FrameSlots(cuda, OnnxEngine(cuda, engine), SPEC), pictures((20, 20))
    for _ in range(6):  # until both slots have a graph
        slots.submit(shown)
        slots.collect()
    slots.submit(shown)
    kept, failing = getattr(HostCuda, call), iter([True])

    def refuse(self: HostCuda, *given: Any) -> None:
        kept(self, *given)
        if next(failing, False):
            raise UnsupportedTargetError("CUDA could not.")

    monkeypatch.setattr(HostCuda, call, refuse)
    with pytest.raises(UnsupportedTargetError):
        slots.close()
    cuda.close()  # raises if anything is left


def test_wrong_use_is_said(slots: FrameSlots) -> None:
    with pytest.raises(UsageError, match="1 to 2 pictures, not 3"):
        slots.submit(pictures((4, 4), (4, 4), (4, 4)))
    with pytest.raises(UsageError, match="no frame is in flight"):
        slots.collect()
    slots.submit(pictures((4, 4)))
    slots.submit(pictures((4, 4)))
    with pytest.raises(UsageError, match="2 frames are in flight"):
        slots.submit(pictures((4, 4)))


def test_the_host_refuses_what_a_device_would_not_survive(cuda: HostCuda, tmp_path: Path) -> None:
    with pytest.raises(HostFaultError, match="without a current device"):
        cuda.allocate(8)
    with cuda.active():
        stream, pinned = cuda.stream(), cuda.pin(64)
        address = cuda.allocate(64)
        with pytest.raises(HostFaultError, match="in no allocation"):
            cuda.upload(address + 1, pinned.array, stream)
        with pytest.raises(HostFaultError, match="not pinned"):
            cuda.upload(address, np.zeros(64, np.uint8), stream)
        with pytest.raises(HostFaultError, match="allocate while a capture"):
            cuda.capture(lambda: cuda.allocate(4) and None, stream)
        with pytest.raises(HostFaultError, match="synchronise while a capture"):
            cuda.capture(lambda: cuda.synchronise(stream), stream)
        pinned.array[:] = 7
        cuda.upload(address, pinned.array, stream)
        pinned.array[:] = 9  # too early: the copy has not run
        cuda.synchronise(stream)
        assert cuda.view(address, (64,), np.uint8)[0] == 9
        with pytest.raises(HostFaultError, match="was not allocated"):
            cuda.free(address + 8)
        with pytest.raises(HostFaultError, match="1 blocks, 1 pinned, 1 streams"):
            cuda.close()
        cuda.free(address)
        cuda.unpin(pinned)
        cuda.close_stream(stream)
