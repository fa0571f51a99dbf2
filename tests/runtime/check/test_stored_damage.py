"""Stored reference results come from anywhere: what is damaged is refused before a mask is made."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from maskrt.core import InputError, Instances
from maskrt.runtime.check import Recorder, StoredResults


@pytest.fixture
def arrays(truth: Callable[..., Instances]) -> dict[str, Any]:
    recorder = Recorder()
    for picture in (7, 8, 9):
        recorder.add(picture, truth(picture))
    with np.load(io.BytesIO(recorder.finish("FP32", "key").to_bytes())) as file:
        return {name: file[name] for name in file.files}


def _read(arrays: dict[str, Any]) -> StoredResults:
    target = io.BytesIO()
    np.savez_compressed(target, **arrays)
    return StoredResults.from_bytes(target.getvalue())


def test_what_was_written_is_read(arrays: dict[str, Any], truth: Callable[..., Instances]) -> None:
    np.testing.assert_array_equal(_read(arrays).of(7).masks, truth(7).masks)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("image_ids", lambda a: a[::-1]), ("sizes", lambda a: a + 1), ("sizes", lambda a: a * 0),
        ("starts", lambda a: a + 1), ("starts", lambda a: a[::-1]), ("boxes", lambda a: a * np.nan),
        ("scores", lambda a: a[1:]), ("labels", lambda a: a - 99), ("runs", lambda a: a[:-1]),
        ("runs", lambda a: a ^ 1), ("run_starts", lambda a: a[:-1]), ("boxes", lambda a: a[:, :3]),
        ("run_starts", lambda a: a * 1000), ("meta", lambda a: a[:-1]),
    ],
)  # fmt: skip
def test_one_array_that_does_not_fit(
    arrays: dict[str, Any], name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    with pytest.raises(InputError, match="the stored reference cannot be read"):
        _read({**arrays, name: change(arrays[name])})
