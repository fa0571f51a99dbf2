"""A DETR for several pictures a call: the file's own network, widened by what it takes itself.

Attention joins pictures and heads in one axis, so nothing that was folded for one picture can be
widened afterwards. The file is folded anew for the batch, and the same tensors are its answers. Not
every file that says so takes any number of pictures (libreyolo 1.6 gathers from its anchors as if
for one); so the result is run once.
"""

from pathlib import Path

import numpy as np
import onnx

from ...core import UsageError, require
from .fold import fold
from .one_pass import OnePass
from .one_pass_graph import one_pass_graph
from .source import Source

__all__ = ["batched_graph"]


def batched_graph(file: Path, source: Source, found: OnePass, batch: int) -> onnx.ModelProto:
    """Return the canonical graph of `found` for `batch` pictures.

    Raises:
        UsageError: the file is for one picture, or only says that it is not.
    """
    if not source.free:
        raise UsageError(
            f"batch is {batch}, and the attention of {file} is written for one picture a call: "
            "leave batch out, or export the model with a dynamic batch."
        )
    model = one_pass_graph(fold(source.of_pictures(batch)), found, batch, given=batch)
    height, width = found.preprocessing.size
    runtime = require("onnxruntime", "see whether the file takes several pictures")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(
            model.SerializeToString(), options, ["CPUExecutionProvider"]
        )
        session.run(None, {"images": np.zeros((batch, height, width, 3), np.uint8)})
    except Exception as error:  # ONNX Runtime's errors have no common type
        raise UsageError(
            f"batch is {batch}, and {file} says that it takes any number of pictures a call and "
            f"computes with one ({str(error).split('Status Message:')[-1].strip()[:120]}): leave "
            "batch out."
        ) from error
    return model
