"""The original file in ONNX Runtime: what surgery is compared with, in a form that runs there.

Whole, as its exporter wrote it, with three exceptions that change no meaning: FP16 and doubles are
computed in FP32, opset 22 and later is run as 21 (`runnable.py`), and tensors inside may be made
outputs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...core import InputError, require
from .picture_input import PictureInput, picture_input
from .runnable import runnable
from .single_precision import in_float32, other_precision

__all__ = ["Original"]

_ERRORS_ONLY = 3


class Original:
    """An ONNX file that takes one picture; it is loaded when it first runs."""

    def __init__(self, path: Path, names: Sequence[str] | None = None) -> None:
        """Remember what to run.

        Args:
            path: the file.
            names: the tensors wanted; None for its outputs.
        """
        self._path = path
        self._names = None if names is None else list(names)
        self._session: Any = None
        self._taken: PictureInput | None = None

    def run(self, picture: np.ndarray) -> list[np.ndarray]:
        """Return what the file makes of `picture [3, H, W]`, in its own range of numbers.

        Raises:
            InputError: ONNX Runtime does not load it, or fails on the picture.
        """
        if self._session is None:
            self._open()
        assert self._taken is not None
        feed = {self._taken.name: self._taken.fed(picture)}
        try:
            found: list[np.ndarray] = self._session.run(self._names, feed)
        except Exception as error:  # ONNX Runtime's own errors share no narrower base
            raise InputError(
                f"{self._path} itself fails in ONNX Runtime on a picture "
                f"({' '.join(str(error).split())}), so surgery could not be compared with it: "
                "export the model anew, with another exporter."
            ) from error
        return found

    def _open(self) -> None:
        runtime = require("onnxruntime", "compare the canonical graph with the original ONNX")
        options = runtime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        model = self._runs_as()
        try:
            self._session = runtime.InferenceSession(model, options, ["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own errors share no narrower base
            raise InputError(
                f"ONNX Runtime does not load {self._path} ({' '.join(str(error).split())}), so "
                "surgery could not be compared with it: export the model anew."
            ) from error

    def _runs_as(self) -> str | bytes:
        """Return the file's path, or the bytes of the form that runs."""
        bare = onnx.load(str(self._path), load_external_data=False)
        kind, given = other_precision(bare), {output.name for output in bare.graph.output}
        missing = [name for name in self._names or () if name not in given]
        if not kind and not missing and runnable(bare, self._path) is bare:
            self._taken = picture_input(bare)
            return str(self._path)
        model = runnable(onnx.load(str(self._path)), self._path)
        model = in_float32(model, kind) if kind else model
        for name in missing:
            model.graph.output.add().name = name
        self._taken = picture_input(model)
        return model.SerializeToString()
