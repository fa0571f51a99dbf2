"""Builds by their content: what was built once from the same inputs is not built again.

    $XDG_CACHE_HOME/maskrt/builds/<key>/       index.json (sha256 of each file), and the files
    $XDG_CACHE_HOME/maskrt/timing/<device>     what TensorRT measured of kernels there

The key is the SHA-256 of everything that a builder is given: the graph as its parser reads it, the
request, the builder's version, and where they matter our kernels and the GPU. An entry is written
beside its place and renamed into it, so there is never half of one; it is read with its checksums,
and an entry that differs from them is dropped. The least recently used entries go when the whole is
larger than the limit.

| variable | meaning |
|---|---|
| `MASKRT_CACHE` | `off` neither reads nor writes any; otherwise the folder to use |
| `MASKRT_CACHE_MIB` | most that the builds may take, 4096 unless it is set |

A cache that cannot be written is no reason for a build to fail, so its own errors are swallowed.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...core import InputError, UsageError
from ...core.cache import kept_folder
from ...core.typed_files import parsed, read_typed

__all__ = ["BuildCache", "kept_folder", "kept_json", "key_of", "open_cache"]

_LOG = logging.getLogger(__name__)
_INDEX = "index.json"
_FILE = re.compile(r"\w[\w.-]*")  # of an entry, and in its folder
_DEFAULT_MIB = 4096
_ABANDONED = 24 * 3600.0  # seconds after which an unfinished entry is nobody's


class BuildCache:
    """A folder of entries, each a few files under a key."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Use `folder`, which need not exist; `limit` is in bytes."""
        self._folder = folder
        self._limit = limit

    def get(self, key: str) -> dict[str, bytes] | None:
        """Return the files of an entry, or None if there is none or it is damaged."""
        place = self._folder / key
        try:
            known = read_typed(place / _INDEX, dict[str, str], "it is built anew", InputError)
            if not all(_FILE.fullmatch(name) for name in known):
                return None
            files = {name: (place / name).read_bytes() for name in known}
        except (OSError, InputError):
            return None
        if any(hashlib.sha256(data).hexdigest() != known[name] for name, data in files.items()):
            _LOG.warning("%s differs from its checksums and is dropped", place)
            self._drop(place)
            return None
        with contextlib.suppress(OSError):
            os.utime(place)  # the least recently used entry goes first
        _LOG.info("the build is taken from %s", place)
        return files

    def put(self, key: str, files: dict[str, bytes]) -> None:
        """Keep an entry, unless it is larger than all that may be kept."""
        if sum(map(len, files.values())) > self._limit:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            staged = Path(tempfile.mkdtemp(prefix=".part-", dir=self._folder))
            try:
                index = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
                for name, data in files.items():
                    (staged / name).write_bytes(data)
                (staged / _INDEX).write_text(json.dumps(index), encoding="utf-8")
                staged.rename(self._folder / key)  # fails if another program was quicker
            finally:
                shutil.rmtree(staged, ignore_errors=True)
                self._prune()

    def drop(self, key: str) -> None:
        """Forget an entry."""
        self._drop(self._folder / key)

    def _prune(self) -> None:
        entries = []
        for place in self._folder.iterdir():
            changed = place.stat().st_mtime
            if place.name.startswith("."):
                if time.time() - changed > _ABANDONED:
                    shutil.rmtree(place, ignore_errors=True)
                continue
            size = sum(file.stat().st_size for file in place.iterdir())
            entries.append((changed, size, place))
        total = sum(size for _, size, _ in entries)
        for _, size, place in sorted(entries):
            if total <= self._limit:
                return
            self._drop(place)
            total -= size

    def _drop(self, place: Path) -> None:
        """Take an entry away in one step, so that no reader finds half of it."""
        with contextlib.suppress(OSError):
            gone = Path(tempfile.mkdtemp(prefix=".gone-", dir=self._folder))
            place.rename(gone / "entry")
            shutil.rmtree(gone, ignore_errors=True)


def open_cache(wanted: bool = True) -> BuildCache | None:
    """Return the build cache, or None where it is switched off or not wanted.

    Raises:
        UsageError: `MASKRT_CACHE_MIB` is no number.
    """
    folder = kept_folder() if wanted else None
    if folder is None:
        return None
    asked = os.environ.get("MASKRT_CACHE_MIB", str(_DEFAULT_MIB))
    if not asked.isdecimal():
        raise UsageError(f"MASKRT_CACHE_MIB is {asked!r}, and must be a number of MiB.")
    return BuildCache(folder / "builds", int(asked) << 20)


def kept_json(files: dict[str, bytes] | None, name: str, kind: Any) -> Any:
    """Return what a JSON file of an entry says; None without one that is of the declared kind."""
    if files is None or name not in files:
        return None
    try:
        return parsed(files[name], kind, name, "it is built anew", InputError)
    except InputError:
        return None


def key_of(parts: Iterable[bytes]) -> str:
    """Return the key of an entry: a digest of its inputs, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
