"""Streams: order, sizes, failures, back-pressure, and nothing left behind; sessions in threads."""

import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrt.core import Bundle, InputError, InputSpec, PrecisionError, UsageError
from maskrt.runtime import Backend, Session, open_session

SPEC = InputSpec(64, 64, batch=2)
MakeBundle = Callable[..., Bundle]


@pytest.fixture
def bundle(make_bundle: MakeBundle, make_engine: Callable[..., bytes]) -> Bundle:
    pytest.importorskip("onnxruntime")
    masks = np.ones((2, 28, 28), np.float32)
    engine = make_engine(SPEC, [[8, 8, 24, 40], [30, 0, 60, 9]], [1, 2], masks)
    return make_bundle({"cpu": {"engine.onnx": engine}}, spec=SPEC)


@pytest.fixture
def session(bundle: Bundle) -> Iterator[Session]:
    with open_session(bundle) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    """Every test here ends without a thread or file that it did not begin with."""
    yield
    gc.collect()
    assert _threads() == []
    assert _open_below(tmp_path) == []


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "maskrt-reader"]


def _open_below(folder: Path) -> list[str]:
    """Return the files below `folder` that this process has open."""
    links = Path("/proc/self/fd").iterdir() if sys.platform == "linux" else ()
    opened = []
    for link in links:
        with contextlib.suppress(FileNotFoundError):
            opened.append(os.readlink(link))
    return [name for name in opened if name.startswith(str(folder))]


def pictures(count: int) -> Iterator[np.ndarray]:
    """Square pictures of every size, each a grey of its own, so that scores tell them apart."""
    for index in range(count):
        side = 3 + index * 7 % 90
        yield np.full((side, side, 3), index % 256, np.uint8)


def scores(frames: Any) -> list[float]:
    return [float(frame.result().scores[0]) * 255 for frame in frames]


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("prefetch", [1, 3])
def test_frames_keep_their_order(session: Session, count: int, prefetch: int) -> None:
    frames = list(session.predict_stream(pictures(count), prefetch=prefetch))
    assert [frame.index for frame in frames] == list(range(count))
    np.testing.assert_allclose(scores(frames), range(count), atol=0.1)
    for frame, picture in zip(frames, pictures(count), strict=True):
        np.testing.assert_array_equal(frame.image, picture)
        assert frame.result().image_size == picture.shape[:2]


def test_a_stream_finds_what_predict_finds(session: Session) -> None:
    shown = list(pictures(9))
    for frame, expected in zip(session.predict_stream(shown), session.predict(shown), strict=True):
        np.testing.assert_array_equal(frame.result().boxes, expected.boxes)
        np.testing.assert_array_equal(frame.result().masks, expected.masks)


@pytest.mark.parametrize("where", [0, 1, 2, 6])
def test_a_bad_picture_is_reported_and_the_stream_goes_on(
    session: Session, tmp_path: Path, where: int
) -> None:
    bad = tmp_path / "cut.png"
    bad.write_bytes(b"\x89PNG no more")
    shown: list[Any] = list(pictures(7))
    shown[where] = bad
    frames = list(session.predict_stream(shown))
    assert [frame.index for frame in frames if frame.error] == [where]
    failed = frames.pop(where)
    assert isinstance(failed.error, InputError)
    assert failed.source is bad
    assert failed.instances is None
    with pytest.raises(InputError, match=r"cut\.png"):
        failed.result()
    np.testing.assert_allclose(scores(frames), [i for i in range(7) if i != where], atol=0.1)


def test_what_is_no_picture_at_all_is_reported(session: Session) -> None:
    class Treacherous:
        def __dlpack__(self) -> None:
            raise ZeroDivisionError("surprise")

    frames = list(session.predict_stream([object(), Treacherous(), np.zeros((4, 4, 3), np.uint8)]))
    assert [type(frame.error) for frame in frames] == [InputError, InputError, type(None)]
    assert "ZeroDivisionError: surprise" in str(frames[1].error)


def test_only_bad_pictures(session: Session) -> None:
    frames = list(session.predict_stream([None] * 5))
    assert all(isinstance(frame.error, InputError) for frame in frames)
    assert len(frames) == 5


def test_numbers_that_are_not_finite_are_the_pictures_own(session: Session) -> None:
    run = session._backend.run  # type: ignore[union-attr]

    def poisoned(images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = {name: value.copy() for name, value in run(images).items()}
        outputs["scores"][images[:, 0, 0, 0] == 3] = np.nan
        return outputs

    session._backend.run = poisoned  # type: ignore[union-attr, method-assign]
    frames = list(session.predict_stream(pictures(6)))
    assert [frame.index for frame in frames if isinstance(frame.error, PrecisionError)] == [3]
    assert sum(frame.instances is not None for frame in frames) == 5


def test_a_failing_source_ends_the_stream_after_its_pictures(session: Session) -> None:
    def source() -> Iterator[np.ndarray]:
        yield from pictures(3)
        raise ConnectionError("camera unplugged")

    stream = session.predict_stream(source())
    assert [next(stream).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ConnectionError, match="unplugged"):
        next(stream)


def test_a_failing_engine_ends_the_stream() -> None:
    class Broken(Backend):
        def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
            raise RuntimeError("device lost")

        def describe(self) -> dict[str, Any]:
            return {}

        def close(self) -> None:
            pass

    with Session(Broken(), SPEC) as opened, pytest.raises(RuntimeError, match="device lost"):
        list(opened.predict_stream(pictures(50)))


def test_a_fast_source_waits(session: Session) -> None:
    """At most `prefetch` batches wait, one is in the reader's hands, one with the caller."""
    taken = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal taken
        for picture in pictures(1000):
            taken += 1
            yield picture

    stream = session.predict_stream(source(), prefetch=2)
    next(stream)
    time.sleep(0.3)
    assert taken <= (2 + 1 + 1) * SPEC.batch + 1
    stream.close()


def test_reading_overlaps_the_engine() -> None:
    """Both take 20 ms a batch; one after the other they would take 40."""

    class Slow(Backend):
        def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
            time.sleep(0.02)
            shapes = {"boxes": (1, 4, 4), "scores": (1, 4), "labels": (1, 4), "count": (1,)}
            return {name: np.zeros(shape, np.int32) for name, shape in shapes.items()}

        def describe(self) -> dict[str, Any]:
            return {}

        def close(self) -> None:
            pass

    def source() -> Iterator[np.ndarray]:
        for picture in pictures(30):
            time.sleep(0.02)
            yield picture

    with Session(Slow(), InputSpec(64, 64)) as opened:
        started = time.perf_counter()
        assert len(list(opened.predict_stream(source()))) == 30
        assert time.perf_counter() - started < 30 * 0.035


@pytest.mark.parametrize("how", ["close", "drop", "break", "raise"])
def test_an_abandoned_stream_leaves_nothing(session: Session, tmp_path: Path, how: str) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (30, 30)).save(file)
    closed = []

    def source() -> Iterator[Path]:
        with open(file, "rb"):
            try:
                while True:
                    yield file
            finally:
                closed.append(True)

    stream = session.predict_stream(source())
    next(stream)
    assert _threads()
    assert _open_below(tmp_path) or sys.platform != "linux"
    if how == "close":
        stream.close()
    elif how == "drop":
        del stream
    else:
        with pytest.raises(KeyError):
            _leave(stream, how)
        del stream
    gc.collect()
    assert closed


def _leave(stream: Any, how: str) -> None:
    for _ in stream:
        if how == "break":
            break
        raise KeyError(how)
    raise KeyError(how)


def test_a_stream_that_never_starts_has_no_thread(session: Session) -> None:
    stream = session.predict_stream(pictures(3))
    assert not _threads()
    del stream


def test_wrong_use_is_said_at_once(session: Session) -> None:
    with pytest.raises(UsageError, match="prefetch is 0"):
        session.predict_stream([], prefetch=0)
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.predict_stream([])


def test_closing_the_session_ends_its_streams(session: Session) -> None:
    stream = session.predict_stream(pictures(1000))
    next(stream)
    session.close()
    with pytest.raises(UsageError, match="closed"):
        list(stream)


def _many(session: Session, number: int) -> bool:
    """Predict pictures that only this thread has; whether every answer is its own."""
    for repeat in range(12):
        grey = number * 12 + repeat
        found = session.predict([np.full((20 + number, 20 + number, 3), grey, np.uint8)] * 3)
        right = [abs(float(f.scores[0]) * 255 - grey) < 0.5 for f in found]
        if not all(right) or found[0].image_size != (20 + number, 20 + number):
            return False
        if not all(value > 0 for value in session.timings.values()):
            return False
    return True


def test_eight_threads_share_a_session(session: Session) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda number: _many(session, number), range(8)))


def test_eight_sessions_in_eight_threads(bundle: Bundle) -> None:
    def work(number: int) -> bool:
        with open_session(bundle, threads=1) as opened:
            return _many(opened, number)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_a_backend_for_one_thread_gets_one_batch_at_a_time() -> None:
    class Single(Backend):
        inside = 0

        def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
            assert not self.inside
            self.inside += 1
            time.sleep(0.002)
            self.inside -= 1
            outputs = {"boxes": np.zeros((2, 1, 4)), "labels": np.zeros((2, 1), np.int32)}
            scores = images[:, 0, 0, :1] / 255
            return {**outputs, "scores": scores, "count": np.ones(2, np.int32)}

        def describe(self) -> dict[str, Any]:
            return {}

        def close(self) -> None:
            pass

    with Session(Single(), SPEC) as opened, ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(opened.predict, [np.zeros((9, 9, 3), np.uint8)]) for _ in range(40)]
        for future in futures:
            future.result()


def test_streams_in_threads_share_a_session(session: Session) -> None:
    def work(number: int) -> list[float]:
        return scores(session.predict_stream(pictures(20 + number)))

    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(work, range(8))):
            np.testing.assert_allclose(found, range(20 + number), atol=0.1)
