"""The fuzzer finds what it is for: other exceptions, signals, hangs, memory, a lost guard."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from maskrt.core import InputError
from maskrt.core.words import for_terminal

from .campaign import input_of, run
from .reader import Reader
from .table import READERS


def _count(data: bytes, _: Random) -> bytes:
    return data[:1] + bytes([data[1] + 1])


def _numbered(at: int, fault: Callable[[], object]) -> Reader:
    """Return a reader of the numbers 0 to 9 that does `fault` at one of them."""
    seen = []

    def read(data: bytes, _: Path) -> None:
        seen.append(data)
        if len(seen) == at + 2:  # a valid one is read first, before the fork
            fault()
        if len(seen) % 2:
            raise InputError("it is odd: give another.")

    return Reader("numbers", lambda: [b"\0\0"], read, _count)


def _spin() -> None:
    while True:
        pass


def _raise() -> None:
    raise KeyError("boxes")


@pytest.mark.parametrize(("fault", "kind", "place"), [
    (_raise, "exception", "KeyError"),
    (lambda: os.kill(os.getpid(), signal.SIGSEGV), "signal", f"signal {int(signal.SIGSEGV)}"),
    (_spin, "hang", "hang"),
    (lambda: bytearray(3 << 29), "memory", "MemoryError"),
])  # fmt: skip
def test_what_may_not_be_is_found(
    fault: Callable[[], object], kind: str, place: str, tmp_path: Path
) -> None:
    outcome = run(_numbered(6, fault), range(10), keep=tmp_path, most_seconds=0.3)
    (found,) = outcome.findings
    assert (found.kind, found.number, outcome.inputs) == (kind, 6, 10)
    assert found.place.startswith(place)
    assert (tmp_path / "numbers-0-6").read_bytes() == input_of(
        _numbered(0, _raise), [b"\0\0"], 0, 6
    )


def test_sentences_are_none() -> None:
    outcome = run(_numbered(-2, _raise), range(10))
    assert (outcome.findings, outcome.inputs, outcome.refused) == ((), 10, 5)


@pytest.mark.parametrize("words", ["", "x" * 100_000])
def test_an_error_that_is_no_sentence_is_one(words: str) -> None:
    def refuse() -> None:
        raise InputError(words)

    (found,) = run(_numbered(3, refuse), range(10)).findings
    assert found.number == 3


def test_time_is_kept() -> None:
    assert run(_numbered(-2, _raise), range(10**9), seconds=0.5).inputs < 10**8


@pytest.mark.parametrize(("name", "guard", "without"), [
    ("manifest.json", "maskrt.core.typed_files.fault", lambda *_: None),
    ("statistics.json", "maskrt.calib.statistics.believed", lambda *_: None),
    ("weights elsewhere", "maskrt.core.data_graphs._text", for_terminal),
    ("engine inspector", f"{__package__}.other_readers.inspected_layers", json.loads),
])  # fmt: skip
def test_a_reader_that_loses_a_guard_is_found(
    name: str, guard: str, without: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the real readers, with one check of ours taken out; whole, it has no finding."""
    reader, numbers = READERS[name], range(1500)
    assert run(reader, numbers).findings == ()
    monkeypatch.setattr(guard, without)
    found = run(reader, numbers).findings
    assert [one for one in found if one.kind == "exception"] != []
