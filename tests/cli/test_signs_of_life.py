"""A log file gets a line at least every ten seconds, with what is known of the time left."""

import subprocess
import sys
import time
from itertools import pairwise

import pytest

from maskrt.cli.signs_of_life import INTERVAL_S, SignsOfLife, duration


class _Log:
    """A clock that is set by hand, and the lines that were written at which second."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.lines: list[tuple[float, str]] = []
        self.signs = SignsOfLife(self._write, clock=lambda: self.now)

    def _write(self, line: str) -> None:
        self.lines.append((self.now - 1000, line))

    def wait(self, seconds: float) -> None:
        """Let time go by, in which nothing is told, as the thread sees it."""
        for _ in range(round(seconds)):
            self.now += 1
            self.signs.tick()

    def texts(self) -> list[str]:
        return [text for _, text in self.lines]

    def longest_silence(self) -> float:
        times = [0.0, *(when for when, _ in self.lines), self.now - 1000]
        return max(later - earlier for earlier, later in pairwise(times))


def test_done_total_and_time_left_every_ten_seconds() -> None:
    log = _Log()
    log.signs.show("calibrate", 0, 100)
    for done in range(1, 101):  # a picture takes four seconds
        log.wait(4)
        log.signs.show("calibrate", done, 100)
    assert log.lines[:3] == [
        (0, "calibrate …"),
        (10, "calibrate: 2 of 100, 10 s so far, about 8 min 10 s left"),
        (20, "calibrate: 4 of 100, 20 s so far, about 8 min 0 s left"),
    ]
    assert log.lines[-1] == (400, "calibrate: 100 of 100, done in 6 min 40 s")
    assert log.longest_silence() <= INTERVAL_S


def test_what_was_done_in_an_earlier_run_took_no_time_in_this_one() -> None:
    log = _Log()
    log.signs.show("calibrate", 80, 100)
    log.wait(9)
    log.signs.show("calibrate", 85, 100)
    log.wait(1)
    assert log.texts()[-1] == "calibrate: 85 of 100, 10 s so far, about 30 s left"


def test_a_stage_without_steps_is_seen_to_go_on() -> None:
    """A compiler without a monitor, or a trace: 0 of 1 until it is done."""
    log = _Log()
    log.signs.show("build rtx int8", 0, 1)
    log.wait(25)
    log.signs.show("build rtx int8", 1, 1)
    assert log.texts() == [
        "build rtx int8 …",
        "build rtx int8: 0 of 1, 10 s so far, time left not known yet",
        "build rtx int8: 0 of 1, 20 s so far, time left not known yet",
        "build rtx int8: 1 of 1, done in 25 s",
    ]


def test_before_and_between_stages_something_is_said_too() -> None:
    log = _Log()
    log.wait(12)
    log.signs.show("prove", 0, 3)
    log.signs.show("prove", 3, 3)
    log.wait(10)
    assert log.texts() == [
        "at work, 10 s so far",
        "prove …",
        "at work after prove, 10 s so far",
    ]
    assert log.longest_silence() <= INTERVAL_S


def test_a_stage_within_a_stage_gives_back_to_it() -> None:
    log = _Log()
    log.signs.show("build orin-nx fp16", 0, 1)
    log.signs.show("segments", 0, 2)
    log.wait(6)
    log.signs.show("segments", 2, 2)
    log.wait(10)
    assert log.texts()[-2:] == [
        "segments: 2 of 2, done in 6 s",
        "build orin-nx fp16: 0 of 1, 16 s so far, time left not known yet",
    ]


def test_a_stage_that_is_run_again_begins_again() -> None:
    """A search checks one recipe after the other; each takes its own time."""
    log = _Log()
    for _ in range(2):
        log.signs.show("check cpu", 0, 50)
        log.wait(5)
        log.signs.show("check cpu", 50, 50)
    log.signs.show("check cpu", 0, 50)
    log.wait(8)
    log.signs.show("check cpu", 40, 50)
    log.wait(2)
    assert log.texts() == [
        "check cpu …",
        "check cpu: 50 of 50, done in 5 s",
        "check cpu: 50 of 50, done in 5 s",
        "check cpu: 40 of 50, 10 s so far, about 2 s left",
    ]


def test_a_camera_has_no_end_to_wait_for() -> None:
    log = _Log()
    for frame in range(12):
        log.signs.show("run camera:0", frame, frame + 1)
        log.wait(1)
    assert log.lines[-1] == (10, "run camera:0: 9, 10 s so far, end not known")


def test_a_stage_that_tells_much_writes_little() -> None:
    log = _Log()
    for done in range(20_000):
        log.now += 0.001
        log.signs.show("run", done, 20_000)
        log.signs.tick()
    assert len(log.lines) == 1 + 20 // 10 - 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min")],
)
def test_durations_are_said_as_a_person_does(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_the_thread_writes_while_the_work_is_inside_a_library() -> None:
    """The real clock and thread, with an interval that a test can wait for."""
    code = (
        "import time, maskrt.cli.signs_of_life as signs\n"
        "signs.INTERVAL_S, signs._LOOK_S = 0.2, 0.05\n"
        "from maskrt.cli.options import progress_bars\n"
        "with progress_bars() as progress:\n"
        "    progress('export', 0, 1)\n"
        "    time.sleep(1)\n"
        "    progress('export', 1, 1)\n"
        "time.sleep(0.5)\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert lines[0] == "export …"
    assert lines[-1] == "export: 1 of 1, done in 1 s"  # nothing after the block
    assert 2 <= len(lines[1:-1]) <= (time.monotonic() - started) / 0.2
    assert all(line.startswith("export: 0 of 1, ") for line in lines[1:-1])
    assert done.stdout == ""
