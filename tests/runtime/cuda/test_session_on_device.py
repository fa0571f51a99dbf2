"""A session whose frames run on the device's code path finds what one on the CPU finds."""

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from maskrt.core import Bundle, InputError, InputSpec, UnsupportedTargetError, UsageError
from maskrt.core.masks import MaskFrame, MaskPaste
from maskrt.runtime import Session, open_session
from maskrt.runtime.backends.cpu import CpuBackend
from maskrt.runtime.cuda import FrameSlots
from maskrt.runtime.cuda.host import HostCuda

from .test_frame import BOXES, SPEC, OnnxEngine, pictures


class OnHost(CpuBackend):
    """ONNX Runtime behind the device's frames."""

    concurrent = False

    def __init__(self, engine: bytes, *, paste: MaskPaste | None = MaskPaste.TORCHVISION) -> None:
        super().__init__(engine, threads=1)
        self.engine, self.devices, self.paste = engine, list[HostCuda](), paste

    def device(self) -> HostCuda:
        return HostCuda()

    def open_frames(self, spec: InputSpec, slots: int) -> FrameSlots:
        self.devices.append(self.device())
        engine = OnnxEngine(self.devices[-1], self.engine)
        return FrameSlots(self.devices[-1], engine, spec, slots=slots, paste=self.paste)


@pytest.fixture(params=MaskPaste, ids=str)
def paste(request: Any) -> MaskPaste:
    chosen: MaskPaste = request.param
    return chosen


@pytest.fixture
def sessions(
    make_engine: Callable[..., bytes], paste: MaskPaste
) -> Iterator[tuple[Session, Session]]:
    """On the device, and on the CPU."""
    pytest.importorskip("onnxruntime")
    masks = np.zeros((3, 28, 28), np.float32)
    masks[:, 5:20, 3:25] = 1
    engine = make_engine(SPEC, BOXES, [1, 2, 1], masks)
    backend = OnHost(engine, paste=paste)
    with (
        Session(backend, SPEC) as device,
        Session(CpuBackend(engine), SPEC, mask_paste=paste) as host,
    ):
        yield device, host
    for cuda in backend.devices:
        cuda.close()  # raises if anything is left


def _equal(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_array_equal(found.masks, expected.masks)
    assert found.to_coco(1)[0]["segmentation"] == expected.to_coco(1)[0]["segmentation"]


def test_predictions_are_the_same(sessions: tuple[Session, Session]) -> None:
    device, host = sessions
    shown = pictures((97, 33), (20, 90), (40, 64))
    for found, expected in zip(device.predict(shown), host.predict(shown), strict=True):
        _equal(found, expected)
    assert device.timings["engine"] > 0


def test_streams_are_the_same_and_keep_two_frames_in_flight(
    sessions: tuple[Session, Session],
) -> None:
    device, host = sessions
    shown: list[Any] = pictures(*[(20 + i % 3, 50) for i in range(11)])
    shown[4] = shown[6] = shown[7] = "absent.png"  # a batch of two bad ones, and one of one
    frames = list(device.predict_stream(shown))
    assert [f.index for f in frames] == list(range(11))
    assert [f.index for f in frames if isinstance(f.error, InputError)] == [4, 6, 7]
    for frame, picture in zip(frames, shown, strict=True):
        if frame.error is None:
            _equal(frame.result(), host.predict(picture))
    calls = device._backend.devices[-1].calls  # type: ignore[union-attr]
    waits = [i for i, name in enumerate(calls) if name == "synchronise"]
    engines = [i for i, name in enumerate(calls) if name in ("engine", "replay")]
    assert len(waits) == 5
    assert engines[1] < waits[0]  # the second frame is queued before the first is waited for


def test_a_small_device_holds_one_set_of_activations(sessions: tuple[Session, Session]) -> None:
    """A stream and `predict`, one after the other and mixed, run in the memory of one frame."""
    device, host = sessions
    device._backend.one_frame = True  # type: ignore[union-attr]
    shown: list[Any] = pictures(*[(20 + i % 3, 50) for i in range(7)])
    shown[2] = shown[4] = shown[5] = "absent.png"
    for frame, picture in zip(device.predict_stream(shown), shown, strict=True):
        if frame.error is None:
            _equal(frame.result(), host.predict(picture))
            _equal(device.predict(picture), host.predict(picture))
    assert len(device._backend.devices) == 1  # type: ignore[union-attr]


def test_masks_over_the_canvas_are_resampled_on_the_host(
    make_engine: Callable[..., bytes],
) -> None:
    """PasteMasks takes none: `TensorRTBackend(paste=None)`, as the loader opens such bundles."""
    pytest.importorskip("onnxruntime")
    masks = np.random.default_rng(0).uniform(0, 1, (3, 10, 16)).astype(np.float32)
    engine = make_engine(SPEC, BOXES, [1, 2, 1], masks)
    backend = OnHost(engine, paste=None)
    frame = MaskFrame.CANVAS
    with (
        Session(backend, SPEC, mask_frame=frame) as device,
        Session(CpuBackend(engine), SPEC, mask_frame=frame) as host,
    ):
        shown = pictures((97, 33), (20, 90), (40, 64))
        for found, expected in zip(device.predict(shown), host.predict(shown), strict=True):
            _equal(found, expected)
            assert found.masks.any()
    for cuda in backend.devices:
        cuda.close()


def test_a_session_without_memory_for_frames_closes_its_backend(
    make_engine: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    backend = OnHost(make_engine(SPEC, BOXES, [1, 2, 1], np.zeros((3, 28, 28), np.float32)))
    made = HostCuda()
    made.left = 3
    closed: list[bool] = []
    monkeypatch.setattr(backend, "close", lambda: closed.append(True))
    monkeypatch.setattr(OnHost, "device", lambda _: made)
    with pytest.raises(UnsupportedTargetError, match="out of memory"):
        Session(backend, SPEC)
    made.close()
    assert closed == [True]


@pytest.mark.parametrize("name", ["letterbox_with", "paste_with"])
def test_what_the_device_does_is_not_put_in_its_place(
    make_engine: Callable[..., bytes], name: str
) -> None:
    pytest.importorskip("onnxruntime")
    backend = OnHost(make_engine(SPEC, BOXES, [1, 2, 1], np.zeros((3, 28, 28), np.float32)))
    with pytest.raises(UsageError, match=f"no {name}: open it without on_device"):
        Session(backend, SPEC, **{name: lambda *_: None})  # type: ignore[arg-type]
    for cuda in backend.devices:
        cuda.close()


def test_an_abandoned_stream_gives_its_memory_back(sessions: tuple[Session, Session]) -> None:
    device, _ = sessions
    stream = device.predict_stream(pictures((30, 30)) * 50)
    next(stream)
    stream.close()
    device._backend.devices[-1].close()  # type: ignore[union-attr]


@pytest.mark.parametrize("fails", ["source", "engine"])
def test_what_ends_a_stream_is_raised_after_the_frames_before_it(
    sessions: tuple[Session, Session], fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, host = sessions
    shown = pictures(*[(20 + i, 50) for i in range(6)])  # three batches

    def source() -> Iterator[np.ndarray]:
        yield from shown
        if fails == "source":
            raise ConnectionError("broken off")
        yield shown[0]

    if fails == "engine":
        submit, numbers = FrameSlots.submit, iter(range(99))

        def failing(slots: FrameSlots, images: Any) -> None:
            if next(numbers) == 3:
                raise ConnectionError("broken off")
            submit(slots, images)

        monkeypatch.setattr(FrameSlots, "submit", failing)
    stream = device.predict_stream(source())
    for expected in host.predict(shown):
        _equal(next(stream).result(), expected)
    with pytest.raises(ConnectionError, match="broken off"):
        next(stream)


def test_a_frame_comes_as_soon_as_the_next_is_submitted(
    sessions: tuple[Session, Session],
) -> None:
    """And not when there is a third: a camera's would be a frame late."""
    device, _ = sessions
    came, in_time = threading.Event(), list[bool]()

    def source() -> Iterator[np.ndarray]:
        yield from pictures((20, 50)) * 4  # two batches
        in_time.append(came.wait(2))
        yield pictures((20, 50))[0]

    stream = device.predict_stream(source())
    assert next(stream).index == 0
    came.set()
    assert [frame.index for frame in stream] == [1, 2, 3, 4]
    assert in_time == [True]


def test_a_session_that_is_dropped_gives_its_memory_back(
    make_engine: Callable[..., bytes],
) -> None:
    """As `session = maskrt.load(...)` does with the one before, in a notebook."""
    pytest.importorskip("onnxruntime")
    backend = OnHost(make_engine(SPEC, BOXES, [1, 2, 1], np.zeros((3, 28, 28), np.float32)))
    session = Session(backend, SPEC)
    stream = session.predict_stream(pictures((30, 30)) * 9)
    next(stream)
    del session
    next(stream)  # the stream holds it
    del stream
    gc.collect()
    for cuda in backend.devices:
        cuda.close()  # raises if anything is left
    assert backend._session is None


def test_threads_share_a_session(sessions: tuple[Session, Session]) -> None:
    device, host = sessions
    shown = pictures(*[(20 + i, 50) for i in range(8)])
    with ThreadPoolExecutor(8) as pool:
        for found, picture in zip(pool.map(device.predict, shown), shown, strict=True):
            _equal(found, host.predict(picture))


def test_a_target_without_a_device_says_so(
    make_bundle: Callable[..., Bundle], make_engine: Callable[..., bytes]
) -> None:
    bundle = make_bundle({"cpu": {"engine.onnx": make_engine(InputSpec(64, 64), [], [])}})
    with pytest.raises(UsageError, match="cpu has no device"):
        open_session(bundle, "cpu", on_device=True)
