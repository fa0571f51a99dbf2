"""What engines scored, on disk: a search that was stopped goes on where it was.

A journal belongs to one graph and data set, and maps a recipe's digest to the AP of its engine. It
holds what was measured alone: what a recipe loses and costs follows from that, for any device.

It is a cache: `MASKRT_CACHE` moves it or switches it off, an error of the disk stops nobody, and a
file that is damaged or of another layout is begun anew.
"""

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np

from .. import __version__
from ..core import MaskrtError, require
from ..core.bounds import POINTS, SECONDS
from ..core.typed_files import read_typed
from ..runtime.build.cache import kept_folder

__all__ = ["Journal", "Measured"]


@dataclass(frozen=True)
class Measured:
    """What was measured of an engine.

    Attributes:
        ap: box, mask, … → AP, 0 to 100.
        latency_ms: median a picture, on the CPU of this machine.
    """

    ap: dict[str, float]
    latency_ms: float


class _Entry(TypedDict):
    ap: dict[str, Annotated[float, POINTS]]
    latency_ms: Annotated[float, SECONDS]


class Journal:
    """A mapping that is on disk after every change."""

    def __init__(self, *facts: Any) -> None:
        """Open the journal of `facts`: all that a measurement depends on besides the recipe."""
        versions = [__version__, require("onnxruntime", "measure AP").__version__]
        written = json.dumps([*facts, versions], sort_keys=True, default=_plain)
        key = hashlib.sha256(written.encode()).hexdigest()[:24]
        folder = kept_folder()
        self._file = None if folder is None else folder / "search" / f"{key}.json"
        self._known = {} if self._file is None else _read(self._file)

    def get(self, name: str) -> Measured | None:
        """Return what was measured of `name`, if it was."""
        return self._known.get(name)

    def put(self, name: str, measured: Measured) -> None:
        """Remember what was measured of `name`."""
        self._known[name] = measured
        if self._file is None:
            return
        written = json.dumps({n: asdict(found) for n, found in self._known.items()})
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            staged = self._file.with_suffix(f".{os.getpid()}")
            staged.write_text(written)
            staged.replace(self._file)


def _read(file: Path) -> dict[str, Measured]:
    """Return what a journal holds; nothing if it is not there, damaged, or of another layout."""
    try:
        entries = read_typed(file, dict[str, _Entry], "it is begun anew")
    except MaskrtError:
        return {}
    kinds = {frozenset(entry["ap"]) for entry in entries.values()}
    if len(kinds) > 1 or not all("box" in kind for kind in kinds):
        return {}
    if any(entry.keys() != _Entry.__required_keys__ for entry in entries.values()):
        return {}  # another version's
    return {name: Measured(entry["ap"], entry["latency_ms"]) for name, entry in entries.items()}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
