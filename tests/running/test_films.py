"""`maskrt run` over videos: what is written, interrupted, left out, and how files are called."""

import itertools
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
    PrecisionError,
    Progress,
    Target,
)
from maskrt.running.films import film
from maskrt.running.kept import Kept
from maskrt.running.mask_files import MaskFiles
from maskrt.running.pictures import run
from maskrt.runtime import Session, open_session
from maskrt.runtime.sources import Video

NOTHING = Target("null", "null")


def test_a_run_over_pictures_and_a_video(empty_bundle: Bundle, video: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(video.parent / "a.png")
    told: list[Any] = []
    results = run(
        empty_bundle, [video.parent / "*.png", video], tmp_path / "out", target=NOTHING,
        progress=lambda *now: told.append(now),
    )  # fmt: skip
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert written == ["a.png", "clip.mp4", "images.json", "results.json"]
    assert [image["id"] for image in results.images] == list(range(1, 12))
    assert results.images[1]["file_name"] == f"{video}#0"
    assert told[-1] == ("run clip.avi", 10, 10)
    assert len(list(Video(tmp_path / "out" / "clip.mp4"))) == 10


def test_a_limited_film(empty_bundle: Bundle, video: Path, tmp_path: Path) -> None:
    with open_session(empty_bundle, NOTHING) as session:
        kept = Kept(0.5, MaskFiles(tmp_path, ()))
        assert film(session, video, tmp_path / "out.mp4", kept, limit=4) == []
    assert len(kept.images) == 4
    assert len(list(Video(tmp_path / "out.mp4"))) == 4


def test_a_truncated_film_is_named_and_its_frames_are_kept(
    empty_bundle: Bundle, video: Path, tmp_path: Path
) -> None:
    import cv2

    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 12.0, (64, 48))
    for noise in np.random.default_rng(0).integers(0, 255, (30, 48, 64, 3), np.uint8):
        writer.write(noise)
    writer.release()
    whole = run(empty_bundle, [video], tmp_path / "whole", target=NOTHING)
    assert (len(whole.images), whole.skipped) == (30, [])
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    results = run(empty_bundle, [video], tmp_path / "out", target=NOTHING)
    kept = len(results.images)
    assert 5 < kept < 25
    (sentence,) = results.skipped
    assert sentence.startswith(f"{video} from frame {kept} on: it says that it has 30,")
    limited = run(empty_bundle, [video], tmp_path / "some", target=NOTHING, max_frames=2)
    assert limited.skipped == []


@pytest.mark.parametrize("bad", [0, 3])
def test_a_frame_that_fails_does_not_end_a_film(
    empty_bundle: Bundle, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    instances_of, numbers = Session._instances, itertools.count()

    def failing(self: Session, *given: Any) -> Any:
        if next(numbers) == bad:
            raise PrecisionError("the engine returned scores that are not finite numbers.")
        return instances_of(self, *given)

    monkeypatch.setattr(Session, "_instances", failing)
    if bad == 0:
        with pytest.raises(PrecisionError):
            run(empty_bundle, [video], tmp_path / "out", target=NOTHING)
        assert not (tmp_path / "out").exists()
        return
    results = run(empty_bundle, [video], tmp_path / "out", target=NOTHING)
    assert [image["id"] for image in results.images] == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    (sentence,) = results.skipped
    assert sentence.startswith(f"{video} frame 3: the engine returned scores")
    assert len(list(Video(tmp_path / "out" / "clip.mp4"))) == 10


def test_a_film_that_fails_after_another_leaves_no_earlier_results(
    empty_bundle: Bundle, video: Path, tmp_path: Path
) -> None:
    output, bad = tmp_path / "out", tmp_path / "bad.mp4"
    run(empty_bundle, [video], output, target=NOTHING)
    bad.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be opened"):
        run(empty_bundle, [bad], output, target=NOTHING)
    assert (output / "results.json").exists()  # of the film beside it, which is as it was
    with pytest.raises(InputError, match="cannot be opened"):
        run(empty_bundle, [video, bad], output, target=NOTHING)
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
    empty_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr("maskrt.running.films.Video", _Endless)
    results = run(
        empty_bundle, ["camera:0"], tmp_path / "out", target=NOTHING, progress=_interrupt_at(5),
        max_frames=limit,
    )  # fmt: skip
    assert results.skipped == []
    assert [image["height"] for image in results.images] == [48, 48, 24, 24, 24]
    written = Video(tmp_path / "out" / "camera-0.mp4")
    assert [frame.shape for frame in written] == [(48, 64, 3)] * 5
    assert written.describe()[1] == 5.0
    assert "maskrt-reader" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(KeyboardInterrupt):
        film_at_once(empty_bundle, tmp_path / "none.mp4", monkeypatch)
    assert not (tmp_path / "none.mp4").exists()


def film_at_once(empty_bundle: Bundle, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt a camera before its first frame."""

    def stopped(self: Session, source: Any) -> Generator[Any, None, None]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(Session, "predict_stream", stopped)
    with open_session(empty_bundle, NOTHING) as session:
        film(session, "camera:0", output, Kept(0.5, MaskFiles(output.parent, ())))


def test_ctrl_c_leaves_nothing_of_a_file(empty_bundle: Bundle, video: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(empty_bundle, [video], tmp_path / "out", target=NOTHING, progress=_interrupt_at(3))
    assert not (tmp_path / "out").exists()


def test_a_camera_for_some_frames(
    empty_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr("maskrt.running.films.Video", _Endless)
    found = run(empty_bundle, ["camera:0"], tmp_path / "out", target=NOTHING, max_frames=3)
    assert len(found.images) == 3


def test_results_name_no_password(
    empty_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr("maskrt.running.films.Video", _Endless)
    told: list[str] = []
    results = run(
        empty_bundle, ["rtsp://me:secret@host"], tmp_path / "out", target=NOTHING, max_frames=2,
        progress=lambda stage, *_: told.append(stage),
    )  # fmt: skip
    assert results.images[0]["file_name"] == "rtsp://host#0"
    assert "secret" not in str([*told, *(tmp_path / "out").iterdir(), results])


def test_an_address_gives_a_name_that_a_file_can_have(
    empty_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr("maskrt.running.films.Video", _Endless)
    addresses = [
        f"https://host/live?a={'x' * 300}&b=1", "rtsp://host:554/Streaming/101",
        f"v4l2src {'a=b ' * 100}! appsink",
    ]  # fmt: skip
    run(empty_bundle, addresses, tmp_path / "out", target=NOTHING, max_frames=2)
    films = {file.name for file in (tmp_path / "out").glob("*.mp4")}
    assert films == {"101.mp4", f"{('a-b-' * 100)[-93:]}appsink.mp4", f"{'x' * 96}-b-1.mp4"}


def test_a_bad_video_leaves_no_output(empty_bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be opened"):
        run(empty_bundle, [tmp_path / "bad.mp4"], tmp_path / "new" / "out", target=NOTHING)
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises(InputError, match="cannot be opened"):
        run(empty_bundle, [tmp_path / "bad.mp4"], tmp_path / "old", target=NOTHING)
    assert list((tmp_path / "old").iterdir()) == []
