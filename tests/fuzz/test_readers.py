"""Damaged inputs end in success or in a sentence, whatever reads them.

`benchmarks/fuzz.py` is the long form. Found cases are told as tests beside each reader's own.
"""

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrt.core import MaskrtError

from .campaign import run
from .damage import as_json
from .reader import Reader
from .table import READERS

SECONDS = 60.0  # for all readers together
QUICK = [name for name, reader in READERS.items() if reader.cost < 4]
OF_JSON = [name for name in QUICK if READERS[name].change is as_json]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.slow
def test_a_minute_of_damaged_inputs() -> None:
    """The same each time, so that a red run is of the change that was made.

    New ones are for `benchmarks/fuzz.py`.
    """
    began, faults = time.monotonic(), []
    for place, reader in enumerate(READERS.values()):
        left = (SECONDS - (time.monotonic() - began)) / (len(READERS) - place)
        faults += run(reader, range(1_000_000), 0, seconds=max(left, 0.2)).findings
    assert faults == []


@pytest.mark.parametrize("name", QUICK)
@settings(max_examples=5, deadline=None)
@given(data=st.binary())
def test_any_bytes(name: str, data: bytes) -> None:
    _read(READERS[name], data)


@pytest.mark.parametrize("name", OF_JSON)
@settings(max_examples=8, deadline=None)
@given(data=JSON, key=st.integers(0, 1 << 30))
def test_any_json(name: str, data: object, key: int) -> None:
    """As the whole file, and in the place of something in a valid one."""
    text = json.dumps(data).encode()
    _read(READERS[name], text)
    content, dice = json.loads(READERS[name].seeds()[0]), Random(key)
    if isinstance(content, dict) and content:
        content[dice.choice(list(content))] = data
        _read(READERS[name], json.dumps(content).encode())


@pytest.mark.parametrize("name", OF_JSON)
def test_a_refusal_quotes_no_value_whole(name: str) -> None:
    """Whichever value or key it is that is long."""
    content, long = json.loads(READERS[name].seeds()[0]), "x" * 50_000
    for place in range(len(list(_places(content)))):
        for change in ("value", "key", "list"):
            data = json.loads(json.dumps(content))
            holder, key = list(_places(data))[place]
            if change == "key" and isinstance(holder, dict):
                holder[long] = holder.pop(key)
            else:
                holder[key] = long if change == "value" else [long]
            said = _refusal(READERS[name], json.dumps(data).encode())
            assert len(said) < 5_000, f"{key} {change}: {said[:200]}"


@pytest.mark.parametrize("name", [n for n in READERS if READERS[n].cost < 50])
def test_valid_inputs_are_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nothing of a reader would be tried behind its first check."""
    reader, read = READERS[name], 0
    for index, data in enumerate(reader.seeds()):
        folder = tmp_path / f"{index}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        with contextlib.suppress(MaskrtError):
            reader.read(data, folder)
            read += 1
    assert read


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what holds each value, and at which key or index."""
    inside = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(inside):
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _read(reader: Reader, data: bytes) -> None:
    _refusal(reader, data)


def _refusal(reader: Reader, data: bytes) -> str:
    """Return the sentence that refuses an input; nothing of one that is taken."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            reader.read(data, Path(folder))
        except MaskrtError as error:
            return str(error)
    return ""
