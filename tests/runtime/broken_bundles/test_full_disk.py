"""Disks that fail while a bundle is written: one sentence, and the bundle as it was."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maskrt.core import Bundle, folders

from .damage import Break, build, refused, use

pytest.importorskip("onnxruntime")


class _FailingDisk:
    """Fails the n-th call of one function of the operating system, and all later ones."""

    def __init__(self, real: Callable[..., Any], number: int, code: int) -> None:
        self.real, self.left, self.code = real, number, code

    def __call__(self, *given: Any, **named: Any) -> Any:
        if self.left == 0:
            raise OSError(self.code, os.strerror(self.code))
        self.left -= 1
        return self.real(*given, **named)


def _fail(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, code: int = errno.ENOSPC
) -> None:
    failing = _FailingDisk(getattr(owner, name), number, code)
    monkeypatch.setattr(owner, name, lambda *given, **named: failing(*given, **named))


def _edit(path: Path) -> None:
    with Bundle.open(path).edit() as staged:
        staged.write("report/report.json", {"a": 1})
        staged.write("model.onnx", b"new")
        staged.remove("engines/")


def _create(path: Path) -> None:
    with Bundle.create(path, Bundle.open(path).manifest) as bundle:
        bundle.write("model.onnx", b"new")
        bundle.write("recipe.json", b"new")


@pytest.mark.parametrize("change", [_edit, _create])
@pytest.mark.parametrize(
    ("owner", "name", "number", "code"),
    [
        (Path, "write_bytes", 0, errno.ENOSPC),
        (Path, "write_bytes", 1, errno.ENOSPC),
        (Path, "write_bytes", 2, errno.ENOSPC),
        (Path, "write_bytes", 1, errno.EDQUOT),
        (Path, "write_bytes", 1, errno.EIO),
        (Path, "mkdir", 0, errno.ENOSPC),
        (Path, "chmod", 0, errno.EROFS),
        (folders, "exchange", 0, errno.EACCES),
        (folders, "synced", 0, errno.EIO),
    ],
)
def test_a_full_or_read_only_disk(
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Break,
    owner: Any,
    name: str,
    number: int,
    code: int,
) -> None:
    _fail(monkeypatch, owner, name, number, code)
    assert os.strerror(code) in refused(whole, change)
    monkeypatch.undo()
    assert [p.name for p in sorted(whole.parent.iterdir())] == ["b.maskrt", "secret.txt"]
    use(whole)


@pytest.mark.parametrize("change", [_edit, _create])
def test_no_room_for_a_folder(whole: Path, monkeypatch: pytest.MonkeyPatch, change: Break) -> None:
    _fail(monkeypatch, tempfile, "mkdtemp", 0, errno.EROFS)
    assert os.strerror(errno.EROFS) in refused(whole, change)


def test_no_room_for_copies_where_there_are_no_hard_links(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail(monkeypatch, os, "link", 0, errno.EPERM)
    _fail(monkeypatch, shutil, "copy2", 2)
    assert os.strerror(errno.ENOSPC) in refused(whole, _edit)


def test_a_disk_that_fails_while_an_engine_is_written(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def fail_in_bundle(self: Path, data: bytes) -> int:
        if "engines" in self.parts:
            write(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", fail_in_bundle)
    assert os.strerror(errno.ENOSPC) in refused(whole, build)
    monkeypatch.undo()
    use(whole)
