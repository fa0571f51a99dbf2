"""Sources: what names what, and videos frame by frame."""

import functools
import http.server
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrt.core import (
    Bundle,
    InputError,
    MissingDependencyError,
    Target,
)
from maskrt.running.pictures import run
from maskrt.runtime import open_session
from maskrt.runtime.sources import Video, is_video, list_sources, pictures_of

from .rtsp_server import rtsp_server

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


def test_a_stream_takes_names_as_maskrt_run_does(empty_bundle: Bundle, video: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (30, 20)).save(video.parent / name)
    with open_session(empty_bundle, NOTHING) as session:
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


def test_an_rtsp_stream(empty_bundle: Bundle, tmp_path: Path) -> None:
    """OpenCV's own client, against a server of JPEG by RTP."""
    pytest.importorskip("cv2")
    shown = [np.full((96, 128, 3), (200, 20 * index, 9), np.uint8) for index in range(8)]
    with rtsp_server(shown) as address:
        frames = list(Video(address))
        assert [frame.shape for frame in frames] == [(96, 128, 3)] * 8
        for frame, picture in zip(frames, shown, strict=True):
            np.testing.assert_allclose(frame.mean(axis=(0, 1)), picture.mean(axis=(0, 1)), atol=2)
        results = run(empty_bundle, [address], tmp_path / "out", target=NOTHING, max_frames=5)
        assert [row["file_name"] for row in results.images] == [
            f"{address}#{index}" for index in range(5)
        ]
        assert results.skipped == []
        assert len(list(Video(tmp_path / "out" / "camera.mp4"))) == 5


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_opencv_is_silent_of_what_we_say(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.utils, "logging"):
        pytest.skip("OpenCV 4.8 has no switch for what it says")
    monkeypatch.delenv("OPENCV_LOG_LEVEL", raising=False)
    level = cv2.utils.logging.getLogLevel()
    with pytest.raises(InputError, match="camera:99 cannot be opened"):
        next(iter(Video("camera:99")))
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level
    cv2.VideoCapture(99)
    assert "video99" in capfd.readouterr().err  # what it would have said


@pytest.mark.parametrize("name", ["0", "2", "camera:0", "/dev/video0"])
def test_a_number_and_a_device_mean_the_camera(name: str) -> None:
    assert is_video(name)
    assert not Video(name).is_file


def test_a_file_called_like_a_number_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").mkdir()
    assert not is_video("0")
