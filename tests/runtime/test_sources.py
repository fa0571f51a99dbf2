"""Sources: what names what, and videos frame by frame."""

import functools
import http.server
import itertools
import os
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrt.core import (
    Bundle,
    InputError,
    InputSpec,
    Manifest,
    MissingDependencyError,
    PrecisionError,
    Progress,
    Target,
)
from maskrt.filming import film
from maskrt.running import run_pictures
from maskrt.runtime import Session, open_session
from maskrt.runtime.sources import Video, is_video, list_sources, pictures_of

from .rtsp_server import rtsp_server


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten frames of 48 x 64, each brighter than the last; red is stronger than blue."""
    cv2 = pytest.importorskip("cv2")
    file = tmp_path / "in" / "clip.avi"
    file.parent.mkdir()
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 12.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for index in range(10):
        writer.write(np.full((48, 64, 3), (0, 10 * index, 20 * index), np.uint8))
    writer.release()
    return file


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    outputs = {"boxes": (1, 4, 4), "scores": (1, 4), "labels": (1, 4), "count": (1,)}
    path = tmp_path / "tiny.maskrt"
    with Bundle.create(path, Manifest("test", InputSpec(64, 64), outputs)):
        pass
    return Bundle.open(path)


NOTHING = Target("null", "null")
CSI = "nvarguscamerasrc sensor-id=0 ! nvvidconv ! video/x-raw,format=BGRx ! appsink drop=1"


def test_frames_are_rgb_and_in_order(video: Path) -> None:
    frames = list(Video(video))
    assert len(frames) == 10
    assert {f.shape for f in frames} == {(48, 64, 3)}
    np.testing.assert_allclose([f[..., 0].mean() for f in frames], 20 * np.arange(10), atol=4)
    np.testing.assert_allclose([f[..., 2].mean() for f in frames], 0, atol=4)
    assert Video(video).describe() == (10, 12.0)


def test_a_video_is_closed_when_it_is_abandoned(video: Path) -> None:
    frames = iter(Video(video))
    next(frames)
    frames.close()
    opened = [os.readlink(p) for p in Path("/proc/self/fd").glob("*") if p.exists()]
    assert str(video) not in opened


def test_what_is_no_video_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"nothing")
    for name, words in ((bad, "cannot be opened"), (tmp_path / "no.mp4", "does not exist")):
        with pytest.raises(InputError, match=words):
            next(iter(Video(name)))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingDependencyError, match=r"maskrt\[video\]"):
        next(iter(Video(bad)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.mp4", True), ("A.MKV", True), ("camera:0", True), ("/dev/video1", True),
     ("rtsp://u:p@host/1", True), ("http://host/x", True), ("a.png", False), ("folder", False),
     ("camera:x", False), ("*.jpg", False), (CSI, True), ("a ! b.png", False)],
)  # fmt: skip
def test_videos_are_known_by_name(name: str, expected: bool) -> None:
    assert is_video(name) is expected


def test_passwords_are_in_no_message() -> None:
    pytest.importorskip("cv2")
    video = Video("http://me:secret@127.0.0.1:9/x.mp4")
    assert video.name == "http://127.0.0.1:9/x.mp4"
    assert Video("rtsp://a:b@c:d@host/1?user=x@y").name == "rtsp://host/1?user=x@y"
    assert Video("folder/me@home.mp4").name == "folder/me@home.mp4"
    assert Video("rtsp://host/user=admin&password=secret&channel=1").name == (
        "rtsp://host/user=admin&password=***&channel=1"
    )
    assert Video("https://host/x.mp4?monkey=1&X-Amz-Signature=secret").name == (
        "https://host/x.mp4?monkey=1&X-Amz-Signature=***"
    )
    assert Video("folder/key=1.mp4").name == "folder/key=1.mp4"
    with pytest.raises(InputError, match="cannot be opened") as refused:
        video.describe()
    assert "secret" not in str(refused.value)


def test_a_pipeline_goes_to_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in's, the last frame grey: pip's OpenCV has none."""
    cv2 = pytest.importorskip("cv2")
    opened: list[Any] = []

    class Capture:
        def __init__(self, *given: Any) -> None:
            opened.append(given)
            self.left = [np.full((4, 5), 7, np.uint8), np.full((4, 5, 3), (0, 0, 9), np.uint8)]

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def get(self, what: int) -> float:
            return -1.0

        def read(self) -> tuple[bool, Any]:
            return (True, self.left.pop()) if self.left else (False, None)

        def release(self) -> None:
            opened.append("released")

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda kind: kind == cv2.CAP_GSTREAMER)
    assert Video(CSI).describe() == (None, None)
    assert [frame[0, 0].tolist() for frame in Video(CSI)] == [[9, 0, 0], [7, 7, 7]]
    assert opened == [(CSI, cv2.CAP_GSTREAMER), "released"] * 2
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda kind: False)
    with pytest.raises(InputError, match=r"without GStreamer, as pip's is"):
        Video(CSI).describe()
    named = Video("rtspsrc location=rtsp://a:secret@host/1 user-pw=secret ! decodebin ! appsink")
    assert named.name == "rtspsrc location=rtsp://host/1 user-pw=*** ! decodebin ! appsink"


def test_files_folders_and_patterns(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "a.png", "c.jpg", "deep/d.png", "notes.txt", "odd[1].png"):
        Image.new("L", (2, 2)).save(tmp_path / name, "png")
    assert [p.name for p in list_sources(tmp_path / "?.png")] == ["a.png", "b.png"]
    assert [p.name for p in list_sources(f"{tmp_path}/**/*.png")] == [
        "a.png", "b.png", "d.png", "odd[1].png"
    ]  # fmt: skip
    assert [p.name for p in list_sources(tmp_path)] == ["a.png", "b.png", "c.jpg", "odd[1].png"]
    assert list_sources(tmp_path / "odd[1].png") == [tmp_path / "odd[1].png"]
    assert list_sources("absent.png") == [Path("absent.png")]
    with pytest.raises(InputError, match="no picture matches"):
        list_sources(tmp_path / "*.gif")


def test_a_stream_takes_names_as_maskrt_run_does(bundle: Bundle, video: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (30, 20)).save(video.parent / name)
    with open_session(bundle, NOTHING) as session:
        for named, sources in (
            (video.parent, ["a.png", "b.png"]), (f"{video.parent}/*.png", ["a.png", "b.png"]),
            (str(video.parent / "b.png"), ["b.png"]),
        ):  # fmt: skip
            frames = [
                frame for frame in session.predict_stream(named) if frame.result() is not None
            ]
            assert [frame.source.name for frame in frames] == sources
        assert len([frame.result() for frame in session.predict_stream(str(video))]) == 10
        stream = session.predict_stream(video)
        next(stream)
        stream.close()
        opened = [os.readlink(p) for p in Path("/proc/self/fd").glob("*") if p.exists()]
        assert str(video) not in opened
        with pytest.raises(InputError, match="no picture matches"):
            session.predict_stream(video.parent / "*.gif")
        with pytest.raises(InputError, match="does not exist"):
            next(session.predict_stream("absent.mp4"))


@pytest.mark.parametrize(
    ("given", "kind"),
    [(np.zeros((4, 5, 3), np.uint8), "one picture"), (Image.new("L", (2, 2)), "one picture"),
     (None, "of type NoneType"), (5, "of type int")],
)  # fmt: skip
def test_what_is_no_source_of_pictures_is_said(given: Any, kind: str) -> None:
    with pytest.raises(InputError, match=f"{kind}: give it a list"):
        pictures_of(given)


def test_any_iterable_is_a_source_as_it_is() -> None:
    class Dataset:
        def __getitem__(self, index: int) -> np.ndarray:
            raise IndexError

    for given in ([], iter([]), np.zeros((2, 4, 5, 3), np.uint8), Dataset()):
        assert pictures_of(given) is given  # type: ignore[arg-type]


def test_a_run_over_pictures_and_a_video(bundle: Bundle, video: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(video.parent / "a.png")
    told: list[Any] = []
    results = run_pictures(
        bundle, [video.parent / "*.png", video], tmp_path / "out", target=NOTHING,
        progress=lambda *now: told.append(now),
    )  # fmt: skip
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert written == ["a.png", "clip.mp4", "images.json", "results.json"]
    assert [image["id"] for image in results["images"]] == list(range(1, 12))
    assert results["images"][1]["file_name"] == f"{video}#0"
    assert told[-1] == ("run clip.avi", 10, 10)
    assert len(list(Video(tmp_path / "out" / "clip.mp4"))) == 10


def test_a_limited_film(bundle: Bundle, video: Path, tmp_path: Path) -> None:
    with open_session(bundle, NOTHING) as session:
        found = film(session, video, tmp_path / "out.mp4", limit=4)
    assert len(found.images) == 4
    assert found.skipped == []
    assert len(list(Video(tmp_path / "out.mp4"))) == 4


def test_a_truncated_film_is_named_and_its_frames_are_kept(
    bundle: Bundle, video: Path, tmp_path: Path
) -> None:
    import cv2

    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 12.0, (64, 48))
    for noise in np.random.default_rng(0).integers(0, 255, (30, 48, 64, 3), np.uint8):
        writer.write(noise)
    writer.release()
    whole = run_pictures(bundle, [video], tmp_path / "whole", target=NOTHING)
    assert (len(whole["images"]), whole["skipped"]) == (30, [])
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    results = run_pictures(bundle, [video], tmp_path / "out", target=NOTHING)
    kept = len(results["images"])
    assert 5 < kept < 25
    (sentence,) = results["skipped"]
    assert sentence.startswith(f"{video} from frame {kept} on: it says that it has 30,")
    limited = run_pictures(bundle, [video], tmp_path / "some", target=NOTHING, max_frames=2)
    assert limited["skipped"] == []


@pytest.mark.parametrize("bad", [0, 3])
def test_a_frame_that_fails_does_not_end_a_film(
    bundle: Bundle, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    instances_of, numbers = Session._instances, itertools.count()

    def failing(self: Session, *given: Any) -> Any:
        if next(numbers) == bad:
            raise PrecisionError("the engine returned scores that are not finite numbers.")
        return instances_of(self, *given)

    monkeypatch.setattr(Session, "_instances", failing)
    if bad == 0:
        with pytest.raises(PrecisionError):
            run_pictures(bundle, [video], tmp_path / "out", target=NOTHING)
        assert not (tmp_path / "out").exists()
        return
    results = run_pictures(bundle, [video], tmp_path / "out", target=NOTHING)
    assert [image["id"] for image in results["images"]] == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    (sentence,) = results["skipped"]
    assert sentence.startswith(f"{video} frame 3: the engine returned scores")
    assert len(list(Video(tmp_path / "out" / "clip.mp4"))) == 10


def test_a_film_that_fails_after_another_leaves_no_earlier_results(
    bundle: Bundle, video: Path, tmp_path: Path
) -> None:
    output, bad = tmp_path / "out", tmp_path / "bad.mp4"
    run_pictures(bundle, [video], output, target=NOTHING)
    bad.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be opened"):
        run_pictures(bundle, [bad], output, target=NOTHING)
    assert (output / "results.json").exists()  # of the film beside it, which is as it was
    with pytest.raises(InputError, match="cannot be opened"):
        run_pictures(bundle, [video, bad], output, target=NOTHING)
    assert sorted(file.name for file in output.iterdir()) == ["clip.mp4"]


class _Endless(Video):
    """A camera: no number of frames, a known rate, and a size that changes on the way."""

    def describe(self) -> tuple[int | None, float | None]:
        return None, 5.0

    def __iter__(self) -> Generator[np.ndarray, None, None]:
        for number in itertools.count():
            yield np.full((48, 64, 3) if number < 2 else (24, 32, 3), 200, np.uint8)


def _interrupt_at(frame: int) -> Progress:
    def tell(stage: str, done: int, total: int) -> None:
        if done == frame:
            raise KeyboardInterrupt

    return tell


@pytest.mark.parametrize("limit", [None, 500])
def test_ctrl_c_ends_a_camera_and_keeps_what_was_seen(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr("maskrt.filming.Video", _Endless)
    results = run_pictures(
        bundle, ["camera:0"], tmp_path / "out", target=NOTHING, progress=_interrupt_at(5),
        max_frames=limit,
    )  # fmt: skip
    assert results["skipped"] == []
    assert [image["height"] for image in results["images"]] == [48, 48, 24, 24, 24]
    written = Video(tmp_path / "out" / "camera-0.mp4")
    assert [frame.shape for frame in written] == [(48, 64, 3)] * 5
    assert written.describe()[1] == 5.0
    assert "maskrt-reader" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(KeyboardInterrupt):
        film_at_once(bundle, tmp_path / "none.mp4", monkeypatch)
    assert not (tmp_path / "none.mp4").exists()


def film_at_once(bundle: Bundle, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt a camera before its first frame."""

    def stopped(self: Session, source: Any) -> Generator[Any, None, None]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(Session, "predict_stream", stopped)
    with open_session(bundle, NOTHING) as session:
        film(session, "camera:0", output)


def test_ctrl_c_leaves_nothing_of_a_file(bundle: Bundle, video: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_pictures(bundle, [video], tmp_path / "out", target=NOTHING, progress=_interrupt_at(3))
    assert not (tmp_path / "out").exists()


def test_a_camera_for_some_frames(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr("maskrt.filming.Video", _Endless)
    found = run_pictures(bundle, ["camera:0"], tmp_path / "out", target=NOTHING, max_frames=3)
    assert len(found["images"]) == 3


def test_results_name_no_password(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr("maskrt.filming.Video", _Endless)
    told: list[str] = []
    results = run_pictures(
        bundle, ["rtsp://me:secret@host"], tmp_path / "out", target=NOTHING, max_frames=2,
        progress=lambda stage, *_: told.append(stage),
    )  # fmt: skip
    assert results["images"][0]["file_name"] == "rtsp://host#0"
    assert "secret" not in str([*told, *(tmp_path / "out").iterdir(), results])


def test_an_address_gives_a_name_that_a_file_can_have(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr("maskrt.filming.Video", _Endless)
    addresses = [f"https://host/live?a={'x' * 300}&b=1", "rtsp://host:554/Streaming/101"]
    run_pictures(bundle, addresses, tmp_path / "out", target=NOTHING, max_frames=2)
    films = sorted(file.name for file in (tmp_path / "out").glob("*.mp4"))
    assert films == ["101.mp4", f"{'x' * 96}-b-1.mp4"]


def test_a_network_stream(video: Path) -> None:
    """OpenCV's own client reads a video from an address, frame by frame."""
    handler = functools.partial(_Quiet, directory=str(video.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            frames = list(Video(f"http://127.0.0.1:{server.server_port}/{video.name}"))
        finally:
            server.shutdown()
    np.testing.assert_array_equal(frames, list(Video(video)))


def test_an_rtsp_stream(bundle: Bundle, tmp_path: Path) -> None:
    """OpenCV's own client, against a server of JPEG by RTP."""
    pytest.importorskip("cv2")
    shown = [np.full((96, 128, 3), (200, 20 * index, 9), np.uint8) for index in range(8)]
    with rtsp_server(shown) as address:
        frames = list(Video(address))
        assert [frame.shape for frame in frames] == [(96, 128, 3)] * 8
        for frame, picture in zip(frames, shown, strict=True):
            np.testing.assert_allclose(frame.mean(axis=(0, 1)), picture.mean(axis=(0, 1)), atol=2)
        results = run_pictures(bundle, [address], tmp_path / "out", target=NOTHING, max_frames=5)
        assert [row["file_name"] for row in results["images"]] == [
            f"{address}#{index}" for index in range(5)
        ]
        assert results["skipped"] == []
        assert len(list(Video(tmp_path / "out" / "camera.mp4"))) == 5


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_bad_video_leaves_no_output(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be opened"):
        run_pictures(bundle, [tmp_path / "bad.mp4"], tmp_path / "new" / "out", target=NOTHING)
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises(InputError, match="cannot be opened"):
        run_pictures(bundle, [tmp_path / "bad.mp4"], tmp_path / "old", target=NOTHING)
    assert list((tmp_path / "old").iterdir()) == []


def test_opencv_is_silent_of_what_we_say(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2 = pytest.importorskip("cv2")
    monkeypatch.delenv("OPENCV_LOG_LEVEL", raising=False)
    level = cv2.utils.logging.getLogLevel()
    with pytest.raises(InputError, match="camera:99 cannot be opened"):
        next(iter(Video("camera:99")))
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level
    cv2.VideoCapture(99)
    assert "video99" in capfd.readouterr().err  # what it would have said
