"""The null backend: computes nothing and finds nothing, in outputs of the right shapes.

With it the whole pipeline around an engine runs on any machine, with no engine at all:
`Target("null", "null")` opens it for any bundle.
"""

from typing import Any

import numpy as np

from .base import Backend

__all__ = ["NullBackend"]

_TYPES = {"labels": np.int32, "count": np.int32}


class NullBackend(Backend):
    """Returns zeros, and `count` 0, whatever the picture."""

    concurrent = True

    def __init__(self, outputs: dict[str, tuple[int, ...]]) -> None:
        """Take the name → shape of each output, as a bundle's manifest has them."""
        self._outputs = outputs

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return no detections."""
        return {
            name: np.zeros(shape, _TYPES.get(name, np.float32))
            for name, shape in self._outputs.items()
        }

    def describe(self) -> dict[str, Any]:
        """Return the backend's name."""
        return {"backend": "null", "version": ""}

    def close(self) -> None:
        """Do nothing: nothing is held."""
