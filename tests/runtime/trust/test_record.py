"""The record of what was built here: what it believes, what it refuses, and how large it gets."""

import json
import os
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from maskrt.core import MaskrtWarning
from maskrt.core.cache import record_folder
from maskrt.runtime.trust import record

DIGEST = "5" * 64
OTHER = "6" * 64


def _note(digest: str = DIGEST, *, version_compatible: bool = False) -> None:
    record.note(
        digest, target="rtx", builder="tensorrt_rtx", version="1.7.1",
        version_compatible=version_compatible,
    )  # fmt: skip


@pytest.fixture
def later(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that forgets what this process built, as the next process has."""
    return lambda: monkeypatch.setattr(record, "_noted", {})


def test_another_process_knows_what_was_built_and_when(
    elsewhere: Path, later: Callable[[], None]
) -> None:
    assert record.known(DIGEST) is None
    _note(version_compatible=True)
    later()
    entry = record.known(DIGEST)
    assert entry is not None
    built = entry.pop("built")
    assert built.endswith("Z")
    assert entry.pop("maskrt")
    assert entry == {
        "format_version": 1, "sha256": DIGEST, "target": "rtx", "builder": "tensorrt_rtx",
        "builder_version": "1.7.1", "version_compatible": True,
    }  # fmt: skip
    assert record.known(OTHER) is None
    assert [path.name for path in elsewhere.iterdir()] == [f"{DIGEST}.json"]


def test_a_process_of_its_own_reads_it(elsewhere: Path) -> None:
    _note()
    code = f"from maskrt.runtime.trust import record; print(record.known('{DIGEST}')['target'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "rtx"


@pytest.mark.parametrize("named", [False, True])
def test_nobody_else_may_write_it_and_nobody_reads_the_users_own(
    named: bool, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not named:
        monkeypatch.delenv("MASKRT_RECORD")
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    before = os.umask(0o022)
    try:
        _note()
    finally:
        os.umask(before)
    folder = record_folder()
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (folder, folder / f"{DIGEST}.json")]
    assert modes == ([0o755, 0o644] if named else [0o700, 0o600])


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_an_entry_that_others_may_write_is_not_believed(
    mode: int, elsewhere: Path, later: Callable[[], None]
) -> None:
    _note()
    later()
    file = elsewhere / f"{DIGEST}.json"
    file.chmod(mode)
    assert record.known(DIGEST) is None
    file.chmod(0o600)
    assert record.known(DIGEST) is not None


def test_a_folder_that_others_may_write_is_not_believed_and_the_build_says_so(
    elsewhere: Path, later: Callable[[], None]
) -> None:
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    with pytest.warns(MaskrtWarning, match=r"not believed because others may write.*MASKRT_RECORD"):
        _note()
    later()
    assert record.known(DIGEST) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_another_user_wrote_is_not_believed(
    elsewhere: Path, later: Callable[[], None]
) -> None:
    _note()
    later()
    os.chown(elsewhere / f"{DIGEST}.json", 12345, -1)
    assert record.known(DIGEST) is None
    os.chown(elsewhere / f"{DIGEST}.json", 0, -1)
    os.chown(elsewhere, 12345, -1)
    assert record.known(DIGEST) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_service_believes_what_root_built_where_both_are_told_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: Callable[[], None]
) -> None:
    """`MASKRT_RECORD=/var/lib/maskrt`, for root that builds and for the service."""
    monkeypatch.setenv("MASKRT_RECORD", str(tmp_path / "shared"))
    _note()
    later()
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            monkeypatch.setattr(os, "geteuid", lambda: 12345)  # it cannot be reached as another
            break
    else:
        os.seteuid(12345)
    try:
        found = record.known(DIGEST)
    finally:
        monkeypatch.undo()
        os.seteuid(0)
    assert found is not None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 70000, b'{"sha256": 5}',
     json.dumps({"format_version": 1, "sha256": OTHER}).encode(),
     json.dumps({"format_version": 2, "sha256": DIGEST}).encode()],
)  # fmt: skip
def test_a_damaged_entry_says_nothing(
    content: bytes, elsewhere: Path, later: Callable[[], None]
) -> None:
    _note()
    later()
    (elsewhere / f"{DIGEST}.json").write_bytes(content)
    assert record.known(DIGEST) is None


def test_a_link_is_no_entry(elsewhere: Path, later: Callable[[], None], tmp_path: Path) -> None:
    _note()
    later()
    real = elsewhere / f"{DIGEST}.json"
    real.rename(tmp_path / "moved")
    real.symlink_to(tmp_path / "moved")
    assert record.known(DIGEST) is None


@pytest.mark.parametrize("digest", ["../record/x", "", "A" * 64, "5" * 63, "5" * 64 + "\n"])
def test_a_digest_that_is_none_names_no_file(digest: str, elsewhere: Path) -> None:
    elsewhere.mkdir()
    (elsewhere / "x.json").write_text(json.dumps({"format_version": 1, "sha256": digest}))
    assert record.known(digest) is None


def test_where_it_cannot_be_written_a_warning_says_so_and_this_process_goes_on(
    elsewhere: Path, later: Callable[[], None]
) -> None:
    elsewhere.write_text("a file in its place")
    with pytest.warns(MaskrtWarning, match=r"cannot be noted in .*record.*trust=True"):
        _note()
    assert record.known(DIGEST) is not None
    later()
    assert record.known(DIGEST) is None


def test_it_is_bounded_and_keeps_what_is_used(
    elsewhere: Path, later: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_MOST", 3)
    digests = [f"{number:064x}" for number in range(4)]
    for age, digest in enumerate(digests[:3]):
        _note(digest)
        os.utime(elsewhere / f"{digest}.json", (1000 + age, 1000 + age))
    (elsewhere / ".part-old").touch()
    os.utime(elsewhere / ".part-old", (1000, 1000))
    (elsewhere / ".part-new").touch()
    later()
    assert record.known(digests[0]) is not None  # used last, though it is the oldest
    _note(digests[3])
    later()
    assert [record.known(digest) is not None for digest in digests] == [True, False, True, True]
    left = {path.name for path in elsewhere.iterdir() if path.suffix != ".json"}
    assert left == {".part-new"}


def test_its_place_follows_the_cache_and_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASKRT_RECORD")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.setenv("MASKRT_CACHE", "off")
    assert record_folder() == Path("/state/maskrt/record")
    monkeypatch.delenv("MASKRT_CACHE")
    assert record_folder() == Path("/state/maskrt/record")
    monkeypatch.setenv("MASKRT_CACHE", "/mine")
    assert record_folder() == Path("/mine/record")
    monkeypatch.setenv("MASKRT_RECORD", "/var/lib/maskrt")
    assert record_folder() == Path("/var/lib/maskrt")
    monkeypatch.setenv("XDG_STATE_HOME", "")
    for name in ("MASKRT_RECORD", "MASKRT_CACHE"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/home/x")
    assert record_folder() == Path("/home/x/.local/state/maskrt/record")


def test_noting_without_a_fault_warns_of_nothing(elsewhere: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _note()
