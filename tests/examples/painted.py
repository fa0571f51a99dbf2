"""A detector whose truth is known: it finds rectangles painted in pure red, green and blue."""

import importlib.util
import inspect
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import maskrt
from maskrt.core import InputSpec
from maskrt.runtime import Backend, Session

__all__ = [
    "NAMES", "ROOT", "Painted", "example", "loads", "painted", "session_of", "with_examples",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("background", "red", "green", "blue")
_PURE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.int16)
_MOST = 4  # detections


class Painted(Backend):
    """One instance a colour, of score 0.9, 0.8, 0.7, whose mask is all of its box.

    Attributes:
        batches: how many pictures that differ from their neighbour each call had.
    """

    def __init__(self, spec: InputSpec, seconds: float = 0.0) -> None:
        self.spec, self.seconds = spec, seconds
        self.batches: list[int] = []

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        time.sleep(self.seconds)
        batch = len(images)
        same = [bool((a == b).all()) for a, b in itertools.pairwise(images)]
        self.batches.append(batch - sum(same))
        found: dict[str, np.ndarray] = {
            "boxes": np.zeros((batch, _MOST, 4), np.float32),
            "scores": np.zeros((batch, _MOST), np.float32),
            "labels": np.zeros((batch, _MOST), np.int32),
            "masks": np.zeros((batch, _MOST, 28, 28), np.float32),
            "count": np.zeros(batch, np.int32),
        }
        for at, canvas in enumerate(images):
            for label, colour in enumerate(_PURE, 1):
                near = (np.abs(canvas.astype(np.int16) - colour) < 60).all(axis=2)
                if not near.any():
                    continue
                rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
                slot = int(found["count"][at])
                found["boxes"][at, slot] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
                found["scores"][at, slot] = 1 - label / 10
                found["labels"][at, slot] = label
                found["masks"][at, slot] = 1
                found["count"][at] += 1
        return found

    def describe(self) -> dict[str, Any]:
        return {"backend": "painted", "version": ""}

    def close(self) -> None:
        """Do nothing: nothing is held."""


def session_of(backend: Painted) -> Session:
    """Return a session on it."""
    return Session(backend, backend.spec, class_names=NAMES)


def loads(monkeypatch: pytest.MonkeyPatch, spec: InputSpec) -> list[dict[str, Any]]:
    """Let `maskrt.load` open the painted detector; return what it is asked for, by name."""
    signature, asked = inspect.signature(maskrt.load), list[dict[str, Any]]()

    def load(*given: Any, **named: Any) -> Session:
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        asked.append(bound.arguments)
        return session_of(Painted(spec))

    monkeypatch.setattr(maskrt, "load", load, raising=False)
    return asked


def painted(
    *boxes: tuple[int, tuple[int, int, int, int]], size: tuple[int, int] = (48, 64)
) -> np.ndarray:
    """Return a grey picture with rectangles of (label, xyxy)."""
    image = np.full((*size, 3), 90, np.uint8)
    for label, (x0, y0, x1, y1) in boxes:
        image[y0:y1, x0:x1] = _PURE[label - 1].astype(np.uint8)
    return image


def example(file: str) -> ModuleType:
    """Import a program of `examples/`."""
    path = ROOT / "examples" / file
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses ask for it
    spec.loader.exec_module(module)
    return module


def with_examples(path: Sequence[str]) -> list[str] | None:
    """Return a search path that ends with the examples' environment; None if there is none."""
    found = list((ROOT / "build" / "examples" / "lib").glob("python*/site-packages/trackers"))
    return [*path, str(found[0].parent)] if found else None
