"""Files read back: JSON strictly and against a declaration, archives by what they declare."""

import contextlib
import io
import json
from typing import Annotated, Any, TypedDict

import numpy as np
import pytest

from maskrt.core import BundleError
from maskrt.core.typed import Within, fault, faults
from maskrt.core.typed_arrays import Declared, read_archive
from maskrt.core.typed_files import json_text, parsed, plain_json


class _Inside(TypedDict):
    height: Annotated[int, Within(32, 8192)]
    pad: tuple[int, int, int]


class _File(TypedDict):
    input: _Inside
    names: list[str] | None
    shares: dict[str, Annotated[float, Within(0, 1)]]


GOOD: dict[str, Any] = {
    "input": {"height": 64, "pad": [1, 2, 3]}, "names": None, "shares": {"a.b": 1}, "later": [{}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"names": ["a"]}, None),
        ({"input": 3}, "input is 3, and must be an object"),
        ({"input": {"height": 64}}, "input lacks pad"),
        ({"input": {"height": True, "pad": [1, 2, 3]}}, "input.height is true"),
        ({"input": {"height": 9, "pad": [1, 2, 3]}}, "input.height is 9, .* of 32 to 8192"),
        ({"input": {"height": 64.0, "pad": [1, 2, 3]}}, "input.height is 64.0"),
        ({"input": {"height": 64, "pad": [1, 2]}}, "input.pad is a list of 2"),
        ({"names": ["a", 3]}, r"names\[1\] is 3, and must be a text"),
        ({"names": 3}, "names is 3, and must be a list or null"),
        ({"shares": {"a.b": 2}}, r"shares\['a.b'\] is 2"),
        ({"shares": {"a.b": 10**400}}, "beyond 64 bits"),
        ({"later": 2**63}, "later is a number beyond 64 bits"),
    ],
)
def test_the_first_fault_is_named_with_its_place(change: dict[str, Any], said: str | None) -> None:
    found = fault({**GOOD, **change}, _File)
    if said is None:
        assert found is None
    else:
        with pytest.raises(BundleError, match=said):
            parsed(json.dumps({**GOOD, **change}), _File, "a.json", "make it again")


def test_every_fault_is_found() -> None:
    assert len(list(faults({**GOOD, "names": [1, 2], "input": []}, _File))) == 3


def test_nesting_is_bounded_where_anything_may_stand() -> None:
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    assert "nested more than" in (fault({**GOOD, "later": deep}, _File) or "")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "Expecting value"), (b"[NaN]", "NaN"), (b"[-Infinity]", "Infinity"),
        (b'{"a": 1, "a": 2}', "twice"), (b'["\\ud800"]', "surrogate"), (b"\xff", "UTF-8"),
        (b"[" * 100_000, "nested"), (b"1" * 5000, "digits"),
    ],
)  # fmt: skip
def test_json_that_readers_do_not_agree_on(raw: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plain_json(raw)


def test_what_json_may_have() -> None:
    assert plain_json(b'\xef\xbb\xbf["\\ud83d\\ude00"]') == ["\U0001f600"]
    assert plain_json(json_text({"a": [float("inf"), 1.5]})) == {"a": [None, 1.5]}


def _archive(**arrays: Any) -> bytes:
    target = io.BytesIO()
    np.savez_compressed(target, **arrays)
    return target.getvalue()


WANTED = {"a": Declared("float32", (None, 4))}


def test_an_archive_gives_back_what_was_written() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(read_archive(_archive(a=values), WANTED)["a"], values)


@pytest.mark.parametrize(
    "arrays",
    [
        {"b": np.zeros((3, 4), np.float32)}, {"a": np.zeros((3, 4))}, {"a": np.zeros((3, 5), "f4")},
        {"a": np.zeros(4, "f4")}, {"a": np.asfortranarray(np.zeros((3, 4), "f4"))},
        {"a": np.array([[None] * 4])}, {"a": np.zeros((3, 4), ">f4")},
        {"a": np.zeros((2_000_000, 4), "f4")},
    ],
)  # fmt: skip
def test_arrays_of_another_kind_or_size(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"its array a|no array a|hundreds of times"):
        read_archive(_archive(**arrays), WANTED)


def test_a_damaged_archive_is_a_clause() -> None:
    whole = _archive(a=np.random.default_rng(0).random((30, 4)).astype(np.float32))
    rng = np.random.default_rng(1)
    for _ in range(300):
        raw = bytearray(whole)
        raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
        for data in (bytes(raw), whole[: int(rng.integers(len(whole)))]):
            with contextlib.suppress(ValueError):  # and nothing else
                assert read_archive(data, WANTED)["a"].shape == (30, 4)
