"""Instances from a camera, always of its newest frame, as a device runs it.

On a Jetson, with its CSI camera and the GPU doing the letterboxing and pasting as well:

    C='nvarguscamerasrc ! video/x-raw(memory:NVMM),width=1280,height=720 ! nvvidconv !'
    C="$C video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! appsink drop=1"
    python3 examples/camera_loop.py street.maskrt --target orin-nx --on-device --source "$C"

On a desk, where a file stands in for the camera and is played at its own speed, again and again:

    pip install 'maskrt[cpu,video]'
    python examples/camera_loop.py street.maskrt --source street.mp4 --repeat --frames 200

A line of JSON comes for each frame that was looked at: its number, how old its picture was when its
instances were there, and what was found. Frames that come while the engine is busy are dropped: a
robot wants to know what is there now. A camera that fails is opened again after a second.
SIGINT or SIGTERM ends the loop after the frame at hand, and a summary goes to standard error.

For every frame in order, however late, `session.predict_stream` is the shorter way.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import maskrt
from maskrt.runtime.sources import Video

RETRY_SECONDS = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--source", default="camera:0", help="camera, address, pipeline or file")
    parser.add_argument("--target", help="default: the best that this machine can run")
    parser.add_argument("--precision")
    parser.add_argument("--on-device", action="store_true", help="letterbox and paste on the GPU")
    parser.add_argument(
        "--trust-key", type=Path, help="of who built the engine, if not this machine"
    )
    parser.add_argument("--min-score", type=float, default=0.5)
    parser.add_argument("--frames", type=int, help="end after so many; default: never")
    parser.add_argument("--repeat", action="store_true", help="begin a file again when it ends")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with maskrt.load(
        options.bundle,
        options.target,
        precision=options.precision,
        on_device=options.on_device,
        trust=options.trust_key or False,
    ) as session:
        session.predict(np.zeros((480, 640, 3), np.uint8))  # the first call allocates
        newest = Newest(frames_of(options.source, stop, repeat=options.repeat))
        for line in loop(session, newest, stop, options.min_score, options.frames):
            print(json.dumps(line), flush=True)
    print(newest.summary(), file=sys.stderr)


def loop(
    session: maskrt.Session,
    newest: "Newest",
    stop: threading.Event,
    min_score: float = 0.5,
    frames: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield what was found in the newest frame, again and again, until there is none or `stop`."""
    with newest:
        while not stop.is_set() and (frames is None or len(newest.ages_ms) < frames):
            taken = newest.take()
            if taken is None:
                return
            try:
                found = session.predict(taken.image, min_score=min_score)
            except maskrt.MaskrtError as error:  # of one frame; the next may be good
                yield {"frame": taken.number, "error": str(error)}
                continue
            yield {
                "frame": taken.number,
                "age_ms": round(newest.done(taken), 1),
                "instances": [
                    {
                        "name": one.name_of(int(one.labels[0])),
                        "score": round(float(one.scores[0]), 3),
                        "box": one.boxes[0].round(1).tolist(),
                    }
                    for one in found
                ],
            }


def frames_of(source: str, stop: threading.Event, *, repeat: bool) -> Iterator[np.ndarray]:
    """Yield a source's frames: a file's at its own speed, a camera's as they come, for ever."""
    video = Video(source)
    while not stop.is_set():
        try:
            if video.is_file:
                _, rate = video.describe()
                yield from at_rate(iter(video), rate or 30.0)
            else:
                yield from video
        except maskrt.MaskrtError as error:
            if video.is_file:
                raise
            print(f"{error} It is opened again.", file=sys.stderr)
        if video.is_file and not repeat:
            return
        if not video.is_file:
            stop.wait(RETRY_SECONDS)


def at_rate(frames: Iterable[np.ndarray], rate: float) -> Iterator[np.ndarray]:
    """Yield frames no faster than `rate` a second, as a camera gives them."""
    began = time.monotonic()
    for number, frame in enumerate(frames):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        yield frame


@dataclass(frozen=True)
class Taken:
    """A frame, its number in the source, and when it came."""

    number: int
    image: np.ndarray
    came: float


@dataclass
class Newest:
    """The newest frame of a source, which a thread reads; older ones are dropped.

    Attributes:
        source: frames, uint8 `[H, W, 3]` RGB.
        seen: how many came.
        ages_ms: of each frame that was looked at, when its instances were there.
    """

    source: Iterator[np.ndarray]
    seen: int = 0
    ages_ms: list[float] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Taken | None = None
        self._ended: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Newest":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the thread end at its next frame; a camera that gives none is left to it."""
        self._closed = True
        self._thread.join(2.0)

    def take(self) -> Taken | None:
        """Wait for a frame that was not taken yet; None after the last one.

        Raises:
            MaskrtError: the source failed for good.
        """
        with self._changed:
            while self._frame is None and self._ended is None:
                self._changed.wait(0.1)  # so that a signal is seen
                if self._closed:
                    return None
            taken, self._frame = self._frame, None
        if taken is None and not isinstance(self._ended, StopIteration):
            assert self._ended is not None
            raise self._ended
        return taken

    def done(self, taken: Taken) -> float:
        """Note that a frame's instances are there, and return its age in milliseconds."""
        self.ages_ms.append((self.clock() - taken.came) * 1e3)
        return self.ages_ms[-1]

    def summary(self) -> str:
        """Return one sentence: how many frames, and how old."""
        if not self.ages_ms:
            return f"{self.seen} frames came, and none was looked at."
        median, late = np.percentile(self.ages_ms, [50, 95])
        return (
            f"{len(self.ages_ms)} of {self.seen} frames looked at; their age: "
            f"{median:.1f} ms, 95 % below {late:.1f} ms."
        )

    def _read(self) -> None:
        ended: BaseException = StopIteration()
        try:
            for image in self.source:
                with self._changed:
                    self._frame = Taken(self.seen, image, self.clock())
                    self.seen += 1
                    self._changed.notify()
                if self._closed:
                    break
        except Exception as error:  # raised where frames are taken
            ended = error
        with self._changed:
            self._ended = ended
            self._changed.notify()


if __name__ == "__main__":
    main()
