"""Tracks against things whose identity is known, because the test moves them.

The tracker lies in the environment of the examples (`make build/examples/.made`), whose folder is
seen after everything else.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskrt.core import Bundle, Instances, MissingDependencyError, Target, UsageError
from maskrt.running.pictures import run
from maskrt.running.tracks import NO_TRACK, Tracks
from maskrt.runtime import Session
from maskrt.runtime.sources import Video

ROOT = Path(__file__).resolve().parents[2]
NOTHING = Target("null", "null")


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list((ROOT / "build" / "examples" / "lib").glob("python*/site-packages/trackers"))
    if not found:
        pytest.skip("no tracker: run make build/examples/.made")
    monkeypatch.setattr(sys, "path", [*sys.path, str(found[0].parent)])


def _found(*things: tuple[float, float, int, float]) -> Instances:
    """Instances 20 wide of (x, y, label, score), in the order of their scores."""
    ordered = sorted(things, key=lambda thing: -thing[3])
    boxes = [(x, y, x + 20, y + 20) for x, y, _, _ in ordered]
    return Instances(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([score for *_, score in ordered], np.float32),
        np.array([label for _, _, label, _ in ordered], np.int64), (200, 400),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("tracker")
class TestTracks:
    def test_two_things_that_cross_keep_their_numbers(self) -> None:
        """Of one label, on rows that overlap by a third; rank by score alternates."""
        tracks, numbers = Tracks(rate=25), []
        for frame in range(40):
            best, other = (0.9, 0.8) if frame % 2 else (0.8, 0.9)
            right, left = (5.0 * frame, 50.0), (200 - 5.0 * frame, 63.0)
            found = _found((*right, 1, best), (*left, 1, other))
            ids = tracks.follow(found)
            by_row = {
                float(box[1]): int(track) for box, track in zip(found.boxes, ids, strict=True)
            }
            numbers.append((by_row[50.0], by_row[63.0]))
        assert numbers[0] == (NO_TRACK, NO_TRACK)
        assert set(numbers[1:]) in ({(1, 2)}, {(2, 1)})

    def test_a_track_has_one_label(self) -> None:
        """A thing that is taken for another label in the same place begins a track of that."""
        tracks, seen = Tracks(rate=25), []
        for frame in range(12):
            found = _found((3.0 * frame, 50, 1 if frame < 6 else 2, 0.9))
            seen.append(int(tracks.follow(found)[0]))
        assert seen == [0, 1, 1, 1, 1, 1, 0, 2, 2, 2, 2, 2]

    def test_what_is_hidden_comes_back_as_itself_within_a_second(self) -> None:
        for gap, kept in ((20, True), (40, False)):
            tracks, seen = Tracks(rate=25), []
            for frame in range(10 + gap + 5):
                hidden = 10 <= frame < 10 + gap
                found = _found() if hidden else _found((1.0 * frame, 50, 1, 0.9))
                seen += [int(track) for track in tracks.follow(found)]
            assert (seen[9], seen[-1]) == ((1, 1) if kept else (1, 2))

    def test_a_weak_instance_prolongs_a_track_and_begins_none(self) -> None:
        tracks = Tracks(rate=25, min_score=0.5)
        for frame in range(20):
            fading = 0.9 if frame < 5 else 0.2
            found = _found((2.0 * frame, 50, 1, fading), (300, 100, 1, 0.3), (350, 20, 1, 0.05))
            ids = tracks.follow(found)
            by_row = {
                float(box[1]): int(track) for box, track in zip(found.boxes, ids, strict=True)
            }
            assert by_row[100.0] == by_row[20.0] == NO_TRACK
            assert by_row[50.0] == (1 if frame else NO_TRACK)

    def test_a_film_has_numbers_in_its_results_and_colours_that_stay(
        self, empty_bundle: Bundle, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two things of one class change places by score in every frame."""
        for track in (True, False):
            monkeypatch.setattr(Session, "_instances", _scripted())
            out = tmp_path / str(track)
            found = run(
                empty_bundle, [video], out, target=NOTHING, track=track, masks=["csv", "coco"]
            )
            frames = np.array([f.astype(int) for f in Video(out / "clip.mp4")])
            left, right = frames[1:, 24, 8], frames[1:, 24, 50]
            apart = np.abs(left - right).max(axis=1)
            # a mask is half its colour
            assert (apart > 60).all() if track else (apart < 30).all()
            assert np.ptp(left - right, axis=0).max() < 30

            entries = json.loads((out / "results.json").read_text())
            assert entries == found.annotations
            numbers = {
                place: [e.get("track_id") for e in entries if (e["bbox"][0] < 30) is place]
                for place in (True, False)
            }
            assert numbers[True][0] is numbers[False][0] is None  # seen once
            expected = {1, 2} if track else {None}
            assert {*numbers[True][1:], *numbers[False][1:]} == expected
            assert len(set(numbers[True][1:])) == len(set(numbers[False][1:])) == 1
            with (out / "instances.csv").open(newline="") as file:
                rows = [row["track_id"] for row in csv.DictReader(file)]
            assert rows == [str(e.get("track_id", "")) for e in entries]
            kept = json.loads((out / "annotations.json").read_text())["annotations"]
            assert [e.get("track_id") for e in kept] == [e.get("track_id") for e in entries]

    def test_classes_that_are_left_out_have_no_number(
        self, empty_bundle: Bundle, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Session, "_instances", _scripted(labels=(1, 2)))
        found = run(
            empty_bundle, [video], tmp_path, target=NOTHING, track=True, classes=["2"], draw=False
        )
        assert {e["category_id"] for e in found.annotations} == {2}
        assert {e.get("track_id") for e in found.annotations} == {None, 1}


def _scripted(labels: tuple[int, int] = (1, 1)) -> Any:
    """Return what stands for a session's postprocessing: two masks, whose scores take turns."""
    state = {"frame": 0}

    def instances(self: Session, *given: Any) -> Any:
        best = state["frame"] % 2
        state["frame"] += 1
        boxes = np.array([[2, 10, 22, 40], [40, 10, 60, 40]], np.float32)
        order = [best, 1 - best]
        masks = np.zeros((2, 48, 64), bool)
        for at, (x0, y0, x1, y1) in enumerate(boxes[order].astype(int)):
            masks[at, y0:y1, x0:x1] = True
        scores = np.array([0.9, 0.8], np.float32)
        numbers = np.array(labels, np.int64)[order]
        return Instances(boxes[order], scores, numbers, (48, 64), None, masks)

    return instances


def test_tracking_needs_a_video(empty_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no video is among"):
        run(empty_bundle, [tmp_path / "a.png"], tmp_path / "out", target=NOTHING, track=True)


def test_without_a_tracker_the_extra_is_named_before_anything_is_written(
    empty_bundle: Bundle, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'maskrt\[track\]'"):
        run(empty_bundle, [video], tmp_path / "out", target=NOTHING, track=True)
    assert not (tmp_path / "out").exists()
