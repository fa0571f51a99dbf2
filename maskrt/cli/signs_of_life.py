"""What a log file gets to read while work goes on: a line every ten seconds, whatever the stage.

    calibrate …
    calibrate: 37 of 200, 10 s so far, about 44 s left
    calibrate: 200 of 200, done in 55 s

A stage that tells nothing on its way (a trace, a build by a compiler without a monitor) gets the
same line with what is known: that it goes on, and for how long. A terminal has bars
instead (`options.progress_bars`).
"""

import threading
import time
from collections.abc import Callable

from ..core.closes import Closes

__all__ = ["INTERVAL_S", "SignsOfLife", "duration"]

INTERVAL_S = 10.0
_WORTH_A_LINE_S = 1.0  # so long does a stage take whose end is said
_LOOK_S = 0.5  # how often the thread looks whether a line is due


class _Stage:
    """A stage that has begun."""

    def __init__(self, name: str, done: int, total: int, now: float) -> None:
        self.name = name
        self.done, self.total = done, total
        self.endless = False
        self.begin(done, now)

    def begin(self, done: int, now: float) -> None:
        """Begin, maybe anew; `done` of it were done in a run that was stopped."""
        self.first, self.began = done, now

    def update(self, done: int, total: int, now: float) -> None:
        """Take in how far it is; a stage that ends and is told less again has begun anew."""
        if done < self.done:
            self.begin(done, now)
        self.endless = self.total < total == done + 1  # a camera: the total grows, too
        self.done, self.total = done, total

    def line(self, now: float) -> str:
        """Return how far it is and how long it will take."""
        took, gained = now - self.began, self.done - self.first
        if self.endless:
            return f"{self.name}: {self.done}, {duration(took)} so far, end not known"
        known = f"{self.name}: {self.done} of {self.total}, {duration(took)} so far"
        if gained <= 0:
            return f"{known}, time left not known yet"
        return f"{known}, about {duration(took * (self.total - self.done) / gained)} left"


class SignsOfLife(Closes):
    """Writes a line when a stage begins, every ten seconds, and when one of some length ends.

    Between `start` and `close` a thread looks whether a line is due. `show` is the callback for
    progress (`core/progress.py`), and may be called from any thread.
    """

    def __init__(
        self, write: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Write lines by `write`; `clock` gives seconds."""
        self._write, self._clock = write, clock
        self._lock = threading.Lock()
        self._stages: dict[str, _Stage] = {}
        self._open: dict[str, _Stage] = {}  # that have not ended; the one that was told last, last
        self._ended = ""  # which stage did last
        self._since = self._said = clock()  # since when no stage goes on; when the last line was
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def show(self, stage: str, done: int, total: int) -> None:
        """Take in how far a stage is."""
        with self._lock:
            now = self._clock()
            if stage not in self._stages:
                self._stages[stage] = _Stage(stage, done, total, now)
                self._say(f"{stage} …", now)
            known = self._stages[stage]
            known.update(done, total, now)
            self._open.pop(stage, None)
            if done < total:
                self._open[stage] = known
                self._due(now)
            else:
                self._end(known, now)

    def _end(self, stage: _Stage, now: float) -> None:
        self._ended, self._since = stage.name, now
        took = now - stage.began
        if took >= _WORTH_A_LINE_S:
            self._say(f"{stage.name}: {stage.done} of {stage.total}, done in {duration(took)}", now)
        stage.begin(stage.done, now)  # told to have ended twice, it is said once

    def tick(self) -> None:
        """Write a line if none was written for ten seconds."""
        with self._lock:
            self._due(self._clock())

    def _due(self, now: float) -> None:
        if now - self._said < INTERVAL_S:
            return
        if self._open:
            self._say(next(reversed(self._open.values())).line(now), now)
        else:
            before = f" after {self._ended}" if self._ended else ""
            self._say(f"at work{before}, {duration(now - self._since)} so far", now)

    def _say(self, line: str, now: float) -> None:
        self._said = now
        self._write(line)

    def _look(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.tick()

    def start(self) -> "SignsOfLife":
        """Start looking, until `close`."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop; closing twice does nothing."""
        self._over.set()
        self._thread.join()


def duration(seconds: float) -> str:
    """Return seconds as a person says them.

    >>> duration(8.4), duration(95), duration(3720)
    ('8 s', '1 min 35 s', '1 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
