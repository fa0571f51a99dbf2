"""Many inputs through a reader, each in a child process that may die without harm.

The oracle: an input ends in success or `MaskrtError`. A finding is another exception, a signal,
more than 5 s of the processor or 60 s of the clock, or more than 1 GB beside what the process had.
Input n of a reader follows from n and the campaign's seed alone.
"""

import contextlib
import faulthandler
import json
import mmap
import os
import resource
import shutil
import signal
import struct
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from maskrt.core import MaskrtError

from .command import DefectError
from .reader import Reader

__all__ = ["Finding", "Outcome", "input_of", "run", "warm"]

_MOST_SECONDS, _MOST_CLOCK = 5.0, 60.0
_MOST_BYTES = 1 << 30
_LOOK_SECONDS = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Finding:
    """An input that ended in another way than it may.

    Attributes:
        reader: its name.
        number: of the input.
        kind: `"exception"`, `"signal"`, `"hang"` or `"memory"`.
        place: what tells one fault from another: exception and line, or the signal.
        message: more of it.
    """

    reader: str
    number: int
    kind: str
    place: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """What came of a reader's inputs: how many there were, how many were refused, and findings."""

    inputs: int
    refused: int
    findings: tuple[Finding, ...]


def input_of(reader: Reader, seeds: list[bytes], seed: int, number: int) -> bytes:
    """Return input `number`: a seed, changed once to four times."""
    dice = Random(f"{seed} {reader.name} {number}")
    data = dice.choice(seeds)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        data = reader.change(data, dice)
    return data[: 1 << 20]


def run(reader: Reader, numbers: range, seed: int = 0, keep: Path | None = None,
        seconds: float = float("inf"), most_seconds: float = _MOST_SECONDS) -> Outcome:  # fmt: skip
    """Read the inputs of `numbers`, or as many of them as `seconds` suffice for.

    Args:
        reader: reads them.
        numbers: the inputs.
        seed: of the campaign.
        keep: a folder that receives the first input of each fault.
        seconds: after which no further input is begun.
        most_seconds: of the processor that an input may take.
    """
    known: dict[tuple[str, str], Finding] = {}
    seeds = reader.seeds()
    warm(reader, seeds[0])
    end, start, refused = time.monotonic() + seconds, numbers.start, 0
    while start < numbers.stop and time.monotonic() < end:
        with _Child(reader, seeds, range(start, numbers.stop), seed, end) as child:
            found = child.watch(most_seconds)
        start, refused = child.done, refused + child.refused
        for one in found:
            if known.setdefault((one.kind, one.place), one) is one and keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                name = f"{reader.name.replace(' ', '-')}-{seed}-{one.number}"
                (keep / name).write_bytes(input_of(reader, seeds, seed, one.number))
                (keep / f"{name}.json").write_text(json.dumps(asdict(one), indent=2))
    return Outcome(start - numbers.start, refused, tuple(known.values()))


def warm(reader: Reader, data: bytes) -> None:
    """Read a valid input here, so that what is loaded once counts for no input."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Exception):
        reader.read(data, Path(folder))
    os.chdir(before)


class _Child:
    """A process that reads inputs one after the other, and tells how far it is in shared memory."""

    def __init__(
        self, reader: Reader, seeds: list[bytes], numbers: range, seed: int, end: float
    ) -> None:
        self._reader, self._numbers, self._seed, self._end = reader, numbers, seed, end
        self._seeds = seeds
        self._shared = mmap.mmap(-1, 16)  # number of the input, and how many were refused
        self._folder = Path(tempfile.mkdtemp(prefix="maskrt-fuzz-"))
        self._tell(numbers.start, 0)

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_: Any) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def done(self) -> int:
        """The first number that was not read."""
        return struct.unpack("qq", self._shared[:])[0]

    @property
    def refused(self) -> int:
        """How many ended in `MaskrtError`."""
        return struct.unpack("qq", self._shared[:])[1]

    def _tell(self, number: int, refused: int) -> None:
        self._shared[:] = struct.pack("qq", number, refused)

    def watch(self, most_seconds: float) -> list[Finding]:
        """Run the child to its end, or to an input that it does not survive."""
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                self._work()
                os._exit(0)
            os._exit(70)
        number, since, used, ended = -1, time.monotonic(), 0.0, ""
        while True:
            gone, status = os.waitpid(pid, os.WNOHANG)
            if gone:
                break
            now = _processor_seconds(pid)
            if self.done != number:
                number, since, used = self.done, time.monotonic(), now
            if now - used > most_seconds or time.monotonic() - since > _MOST_CLOCK:
                ended = ended or "hang"
                os.kill(pid, signal.SIGKILL)
            time.sleep(_LOOK_SECONDS)
        found = list(self._told())
        if status != 0:
            at = self.done
            word = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {status}"
            found.append(Finding(self._reader.name, at, ended or "signal", ended or word, word))
            self._tell(at + 1, self.refused)
        return found

    def _told(self) -> Iterator[Finding]:
        file = self._folder / "found"
        for line in file.read_text().splitlines() if file.exists() else ():
            yield Finding(**json.loads(line))

    def _work(self) -> None:
        refused, place = 0, self._folder / "in"
        faulthandler.disable()
        with (self._folder / "said").open("wb") as quiet:
            os.dup2(quiet.fileno(), 1)
            os.dup2(quiet.fileno(), 2)
        limit = _size(os.getpid()) + _MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with (self._folder / "found").open("a") as told:
            for number in self._numbers:
                self._tell(number, refused)
                if time.monotonic() > self._end:
                    return
                data = input_of(self._reader, self._seeds, self._seed, number)
                finding, sentence = self._one(data, place, number)
                refused += sentence
                if finding is not None:
                    told.write(json.dumps(asdict(finding)) + "\n")
                    told.flush()
            self._tell(self._numbers.stop, refused)

    def _one(self, data: bytes, place: Path, number: int) -> tuple[Finding | None, bool]:
        place.mkdir(exist_ok=True)
        try:
            self._reader.read(data, place)
        except MaskrtError as error:
            return _sentence_fault(error, self._reader.name, number), True
        except BaseException as error:
            return _as_finding(error, self._reader.name, number), False
        finally:
            os.chdir("/")
            _empty(place)
        return None, False


def _empty(folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def _sentence_fault(error: MaskrtError, reader: str, number: int) -> Finding | None:
    """Return a finding if the error says nothing, or the whole file."""
    text = str(error)
    if text and len(text) < 20_000:
        return None
    return Finding(reader, number, "exception", f"words of {_line_of(error)}", text[:300])


def _as_finding(error: BaseException, reader: str, number: int) -> Finding:
    kind = "memory" if isinstance(error, MemoryError) else "exception"
    own = error.place if isinstance(error, DefectError) else ""
    place = own or f"{type(error).__name__} {_line_of(error)}"
    return Finding(reader, number, kind, place, str(error)[:2000])


def _line_of(error: BaseException) -> str:
    """Return the innermost line of maskrt in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename and "/fuzz/" not in f.filename
           and "/lib/python" not in f.filename] or frames  # fmt: skip
    last = own[-1] if own else None
    return f"{'/'.join(Path(last.filename).parts[-3:])}:{last.lineno}" if last else "nowhere"


def _size(pid: int) -> int:
    """Return a process's address space in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * mmap.PAGESIZE


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
