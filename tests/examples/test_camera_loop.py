"""The camera loop: the newest frame, on the CPU's and on the device's code path, and to its end."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maskrt.core import InputError, InputSpec
from maskrt.core.masks import MaskPaste
from maskrt.runtime.cuda import FrameSlots
from maskrt.runtime.cuda.host import HostCuda
from maskrt.runtime.sources import Video, is_video

from ..runtime.cuda.host_engine import HostEngine
from .painted import ROOT, Painted, example, painted, session_of

camera = example("camera_loop.py")
SPEC = InputSpec(48, 64)
STEP = 0.02


def _numbered(count: int) -> Iterator[np.ndarray]:
    """Yield frames whose red rectangle begins at their number, every 20 ms."""
    for number in range(count):
        yield painted((1, (number, 10, 64, 30)))
        time.sleep(STEP)


def test_a_slow_engine_sees_new_frames_and_drops_those_between() -> None:
    newest = camera.Newest(_numbered(40))
    with session_of(Painted(SPEC, seconds=5 * STEP)) as session:
        lines = list(camera.loop(session, newest, threading.Event()))
    numbers = [line["frame"] for line in lines]
    for line in lines:  # what was found is that frame's
        (one,) = line["instances"]
        assert one == {"name": "red", "score": 0.9, "box": [float(line["frame"]), 10.0, 64.0, 30.0]}
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 39  # nothing newer is left
    assert len(numbers) < newest.seen == 40
    # Were frames queued, the last one would be some 30 calls of the engine old.
    assert newest.ages_ms[-1] < 10 * 5 * STEP * 1e3
    assert f"{len(lines)} of 40 frames" in newest.summary()


def test_a_fast_engine_sees_every_frame_and_waits_for_the_next() -> None:
    newest = camera.Newest(iter(_slowly(6)))
    with session_of(Painted(SPEC)) as session:
        lines = list(camera.loop(session, newest, threading.Event()))
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4, 5]


def test_the_camera_of_the_header_is_taken_for_one() -> None:
    first, second = re.findall(r"""C=['"](?:\$C )?(.+)['"]""", str(camera.__doc__))
    assert is_video(f"{first} {second}")
    assert not Video(f"{first} {second}").is_file


def _slowly(count: int) -> Iterator[np.ndarray]:
    for frame in _numbered(count):
        yield frame
        time.sleep(0.3)


def test_it_ends_after_so_many_frames_or_when_it_is_told() -> None:
    endless = (painted((3, (1, 2, 9, 9))) for _ in iter(int, 1))
    stop = threading.Event()
    with session_of(Painted(SPEC)) as session:
        newest = camera.Newest(endless)
        assert len(list(camera.loop(session, newest, stop, frames=3))) == 3
        newest = camera.Newest(painted((3, (1, 2, 9, 9))) for _ in iter(int, 1))
        for number, _ in enumerate(camera.loop(session, newest, stop)):
            if number == 4:
                stop.set()
        assert len(newest.ages_ms) == 5


def test_the_error_of_a_source_is_raised_after_its_frames() -> None:
    def failing() -> Iterator[np.ndarray]:
        yield painted()
        time.sleep(0.2)
        raise InputError("the camera was pulled out.")

    with session_of(Painted(SPEC)) as session:
        lines = camera.loop(session, camera.Newest(failing()), threading.Event())
        assert next(lines)["frame"] == 0
        with pytest.raises(InputError, match="pulled out"):
            next(lines)


def test_a_file_is_played_at_its_speed() -> None:
    began = time.monotonic()
    frames = list(camera.at_rate((painted() for _ in range(11)), 50.0))
    assert len(frames) == 11
    assert time.monotonic() - began >= 10 / 50


class OnDevice(Painted):
    """The painted detector behind the device's frames: their code and kernels, on the CPU."""

    def __init__(self, spec: InputSpec) -> None:
        super().__init__(spec)
        self.devices: list[HostCuda] = []

    def open_frames(self, spec: InputSpec, slots: int) -> FrameSlots:
        self.devices.append(HostCuda())
        engine = HostEngine(self.devices[-1], self, self.spec)
        return FrameSlots(self.devices[-1], engine, spec, slots=slots, paste=MaskPaste.TORCHVISION)


@pytest.mark.skipif(shutil.which("g++") is None, reason="the kernels are compiled")
def test_a_device_that_letterboxes_and_pastes_finds_the_same() -> None:
    frames = [painted((2, (5 * i, 10, 5 * i + 20, 90)), size=(96, 128)) for i in range(4)]
    found = []
    for backend in (Painted(SPEC), OnDevice(SPEC)):
        with session_of(backend) as session:
            newest = camera.Newest(iter(_one_by_one(frames)))
            found.append(list(camera.loop(session, newest, threading.Event())))
    for host, device in zip(*found, strict=True):
        assert host["instances"] == device["instances"] != []
        assert host["frame"] == device["frame"]


def _one_by_one(frames: list[np.ndarray]) -> Iterator[np.ndarray]:
    for frame in frames:
        yield frame
        time.sleep(0.5)


LAUNCH = """
import inspect, runpy, sys
sys.argv = sys.argv[1:]
import maskrt
from tests.examples.painted import Painted, session_of
asked = inspect.signature(maskrt.load)
def load(*given, **named):
    asked.bind(*given, **named)
    return session_of(Painted(maskrt.InputSpec(48, 64)))
maskrt.load = load
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_program_ends_by_a_signal_with_a_summary(video: Path) -> None:
    """The video's ten frames, 12 a second, are repeated for ever."""
    program = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(ROOT / "examples" / "camera_loop.py"), "scenes.maskrt",
         "--source", str(video), "--repeat"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert program.stdout is not None
    lines = [json.loads(program.stdout.readline()) for _ in range(12)]
    program.send_signal(signal.SIGTERM)
    rest, said = program.communicate(timeout=30)
    assert program.returncode == 0, said
    assert [set(line) for line in lines] == [{"frame", "age_ms", "instances"}] * 12
    assert lines[-1]["frame"] > 10
    assert f"{12 + len(rest.splitlines())} of " in said
