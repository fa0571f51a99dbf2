"""Crossings by hand, and of things that stand still before a camera that turns."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maskrt

from .painted import ROOT, example, with_examples

count = example("count_crossings.py")
DOWN = ((10.0, 0.0), (10.0, 100.0))  # right of it, looking down, is smaller x


def _path(track: int | None, *centres: tuple[float, float], label: int = 1) -> list[dict[str, Any]]:
    rows = []
    for frame, (x, y) in enumerate(centres, 1):
        row = {"image_id": frame, "category_id": label, "bbox": [x - 2, y - 1, 4, 2]}
        rows.append(row if track is None else {**row, "track_id": track})
    return rows


@pytest.mark.parametrize(
    ("centres", "expected"),
    [
        ([(0, 50), (5, 50), (15, 50), (20, 50)], [(3, "left")]),
        ([(20, 50), (15, 50), (5, 50)], [(3, "right")]),
        ([(5, 50), (15, 50), (5, 50)], [(2, "left"), (3, "right")]),
        ([(5, 50), (10, 50), (15, 50)], [(3, "left")]),  # on the line for a frame
        ([(5, 50), (10, 50), (5, 50)], []),  # touches it and goes back
        ([(10, 50), (15, 50)], []),  # begins on it
        ([(5, 120), (15, 120)], []),  # passes below its end
        ([(5, 90), (15, 130)], []),  # the way passes below its end, its first half is beside it
        ([(5, 50), (9, 60)], []),
    ],
)  # fmt: skip
def test_a_way_crosses_the_line_as_often_as_it_changes_sides_between_its_ends(
    centres: list[tuple[float, float]], expected: list[tuple[int, str]]
) -> None:
    found = list(count.crossings(_path(7, *centres), DOWN))
    assert [(one.frame, one.direction) for one in found] == expected
    assert {one.track_id for one in found} <= {7}


def test_tracks_are_told_apart_and_what_has_no_track_is_not_counted() -> None:
    ways = [
        *_path(1, (5, 50), (15, 50)),
        *_path(2, (15, 20), (5, 20), label=3),
        *_path(None, (5, 70), (15, 70)),
    ]
    found = list(count.crossings(sorted(ways, key=lambda row: row["image_id"]), DOWN))
    assert [tuple(one) for one in found] == [(2, 1, 1, "left"), (2, 2, 3, "right")]


@pytest.mark.slow
@pytest.mark.torch
def test_a_turning_camera_sees_each_thing_cross_once(scenes: maskrt.Bundle, tmp_path: Path) -> None:
    """A window of 320 pixels moves over a scene of 608, so things go left past its middle."""
    cv2 = pytest.importorskip("cv2")
    path = with_examples([])
    if path is None:
        pytest.skip("no tracker: run make build/examples/.made")
    from maskrt.demo.scenes import CLASS_NAMES, scene

    wide = scene(3, split="val", size=(256, 640))
    video = tmp_path / "turn.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (320, 256))
    for x in range(0, 289, 8):
        writer.write(np.ascontiguousarray(wide.image[:, x : x + 320, ::-1]))
    writer.release()
    program = (
        f"import runpy, sys; sys.path += {path!r}; "
        f"runpy.run_path({str(ROOT / 'examples' / 'count_crossings.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(scenes.path), str(video), "-o", str(tmp_path / "out"),
         "--line", "160", "0", "160", "256"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    with (tmp_path / "out" / "crossings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    middle = wide.boxes_xyxy[:, [0, 2]].mean(axis=1)
    passed = wide.labels[(middle > 160) & (middle < 448)]  # none is within 14 pixels of these
    assert sorted(row["name"] for row in rows) == sorted(CLASS_NAMES[n - 1] for n in passed)
    assert {row["direction"] for row in rows} == {"right"}  # smaller x, looking down the line
    assert len({row["track_id"] for row in rows}) == len(rows) == 3
