"""What engines scored, on disk: a search that was stopped goes on where it was.

A journal belongs to one graph and data set, and maps a recipe's digest to the AP of its engine. It
holds what was measured alone: what a recipe loses and costs follows from that, for any device.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from . import __version__
from .core import cache_folder, require

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


class Journal:
    """A mapping that is on disk after every change."""

    def __init__(self, *facts: Any) -> None:
        """Open the journal of `facts`: all that a measurement depends on besides the recipe."""
        versions = [__version__, require("onnxruntime", "measure AP").__version__]
        written = json.dumps([*facts, versions], sort_keys=True, default=_plain)
        key = hashlib.sha256(written.encode()).hexdigest()[:24]
        self._file = cache_folder() / "search" / f"{key}.json"
        self._known: dict[str, Measured] = {}
        try:
            read = json.loads(self._file.read_text())
            self._known = {name: Measured(**found) for name, found in read.items()}
        except (OSError, ValueError):
            pass

    def get(self, name: str) -> Measured | None:
        """Return what was measured of `name`, if it was."""
        return self._known.get(name)

    def put(self, name: str, measured: Measured) -> None:
        """Remember what was measured of `name`."""
        self._known[name] = measured
        self._file.parent.mkdir(parents=True, exist_ok=True)
        staged = self._file.with_suffix(f".{os.getpid()}")
        staged.write_text(json.dumps({n: asdict(found) for n, found in self._known.items()}))
        staged.replace(self._file)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
