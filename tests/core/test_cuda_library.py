"""The CUDA driver is opened in one place, and its absence is no error there."""

import ctypes
from pathlib import Path

import pytest

import maskrt
from maskrt import core, plugins, runtime
from maskrt.core.cuda_library import NAME, open_cuda_library
from maskrt.runtime.cuda_device import open_driver


@pytest.mark.parametrize("status", [0, 100])
def test_a_driver_that_finds_no_device_is_none(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    class Driver:
        def cuInit(self, flags: int) -> int:  # noqa: N802
            return status

    opened: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: opened.append(name) or Driver())
    assert (open_driver() is None) == bool(status)
    assert opened == [NAME]


def test_no_driver_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert open_cuda_library() is None
    assert open_driver() is None


def test_no_other_file_opens_it() -> None:
    folders = [Path(package.__file__ or "").parent for package in (maskrt, core, plugins, runtime)]
    files = {file for folder in folders for file in folder.rglob("*.py")}
    named = [file.name for file in files if NAME in file.read_text(encoding="utf-8")]
    assert named == ["cuda_library.py"]
