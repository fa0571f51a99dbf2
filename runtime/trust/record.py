"""This machine's own record of the engines that it built: an engine in it is opened unasked.

    <record folder>/<sha256 of the plan>.json      which target, by which builder, when

An entry is written when a build has ended, by the process that asked for it, and by nothing else:
its name is a digest that is computed here, so no bundle can write, name or move one. It appears
whole, and is believed only if file and folder belong to the user or to root and nobody else may
write to them. The least recently used entries go above 4096 (about 2 MB).

What a process built is known in it, too, so that one that may not write goes on with its own
engine; it is warned that others will not know it. Which folder it is: `core/cache.py`. One that
`MASKRT_RECORD` names may be read by others, so that root can build what a service runs.
"""

import contextlib
import json
import os
import re
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, TypedDict

from ...core import MaskrtWarning
from ...core.cache import record_folder
from ...core.ownership import only_ours
from ...core.typed import fault
from ...core.typed_files import plain_json

__all__ = ["known", "note"]

_VERSION = 1
_MOST = 4096
_MOST_BYTES = 1 << 16
_ABANDONED = 24 * 3600.0  # seconds after which an unfinished entry is nobody's
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PART = ".part-"
_noted: dict[str, dict[str, Any]] = {}  # by this process


class _Entry(TypedDict):
    """An entry, as far as it is read back."""

    format_version: int
    sha256: str
    version_compatible: bool


def note(digest: str, *, target: str, builder: str, version: str, version_compatible: bool) -> None:
    """Note that an engine was built here; where that cannot be written, a warning says so.

    Args:
        digest: SHA-256 of the plan.
        target: that it was built for.
        builder: `"tensorrt"` or `"tensorrt_rtx"`.
        version: of that.
        version_compatible: whether the plan brings host code.
    """
    entry = {
        "format_version": _VERSION, "sha256": digest, "target": target, "builder": builder,
        "builder_version": version, "version_compatible": version_compatible,
        "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "maskrt": _own_version(),
    }  # fmt: skip
    _noted[digest] = entry
    folder = record_folder()
    try:
        _write(folder, digest, entry)
    except OSError as error:
        _warn(
            f"cannot be noted in {folder} ({error.strerror or error})",
            "let MASKRT_RECORD name a folder that can be written",
        )
        return
    if not only_ours(folder):
        _warn(
            f"is noted in {folder}, which is not believed because others may write to it",
            f"run chmod go-w {folder}, or let MASKRT_RECORD name a folder of your own",
        )


def known(digest: str) -> dict[str, Any] | None:
    """Return what is noted of the engine with this SHA-256; None if it was not built here."""
    if digest in _noted:
        return _noted[digest]
    folder = record_folder()
    if not _DIGEST.fullmatch(digest) or not only_ours(folder):
        return None
    entry = _read(folder / f"{digest}.json")
    if entry is None or entry.get("sha256") != digest or entry.get("format_version") != _VERSION:
        return None
    with contextlib.suppress(OSError):  # another user's record, or a disk that is read-only
        os.utime(folder / f"{digest}.json")
    return entry


def _write(folder: Path, digest: str, entry: dict[str, Any]) -> None:
    shared = bool(os.environ.get("MASKRT_RECORD"))
    folder.mkdir(parents=True, exist_ok=True, mode=0o755 if shared else 0o700)
    number, name = tempfile.mkstemp(prefix=_PART, dir=folder)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            json.dump(entry, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644 if shared else 0o600)
        os.replace(name, folder / f"{digest}.json")
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _prune(folder)


def _read(file: Path) -> dict[str, Any] | None:
    """Return an entry, or None if there is none that can be believed."""
    if file.is_symlink() or not file.is_file() or not only_ours(file):
        return None
    try:
        with file.open("rb") as opened:
            entry = plain_json(opened.read(_MOST_BYTES))
    except (OSError, ValueError):
        return None
    return None if fault(entry, _Entry) else dict(entry)


def _prune(folder: Path) -> None:
    """Drop what was used least recently, and what a program that was killed left."""
    with contextlib.suppress(OSError):
        found = [(entry.stat().st_mtime, entry.path) for entry in os.scandir(folder)]
        for changed, path in found:
            if Path(path).name.startswith(_PART) and time.time() - changed > _ABANDONED:
                Path(path).unlink(missing_ok=True)
        entries = sorted(one for one in found if one[1].endswith(".json"))
        for _, path in entries[: max(0, len(entries) - _MOST)]:
            Path(path).unlink(missing_ok=True)


def _warn(what: str, remedy: str) -> None:
    warnings.warn(
        f"that this machine built the engine {what}, so other processes will open it only with "
        f"trust=True: {remedy}.",
        MaskrtWarning,
        stacklevel=3,
    )


def _own_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("maskrt")
    except metadata.PackageNotFoundError:  # run from a clone
        return "unknown"
