"""Tracing: a module of static shapes becomes a canonical ONNX model.

The exporter is PyTorch's own (`dynamo=True`); what it leaves is cleaned by the passes, and the
`maskrt` nodes get their local functions, so the result runs in ONNX Runtime as it is.
"""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import torch
from torch import nn

from ..core import InputSpec
from ..plugins import attach_functions
from .passes import fold_affine_into_conv, name_nodes, strip_metadata

__all__ = ["OPSET", "trace"]

OPSET = 19  # the first in which QuantizeLinear takes FP16


def trace(module: nn.Module, spec: InputSpec, output_names: Sequence[str]) -> onnx.ModelProto:
    """Export `module`, which takes `images uint8 [B, H, W, 3]`, to a canonical model.

    Args:
        module: in eval mode, with static shapes for `spec`.
        spec: the input.
        output_names: one name for each tensor that the module returns.
    """
    images = torch.zeros(spec.shape, dtype=torch.uint8)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (images,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=list(output_names),
            verbose=False,
            external_data=False,
        )
        assert program is not None  # only dynamo=False returns nothing
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            program.save(str(file))
            model = onnx.load(str(file))
    return canonical(model)


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """Clean an exported graph and attach the local functions of its `maskrt` nodes."""
    fold_affine_into_conv(model)
    name_nodes(model)
    strip_metadata(model)
    model.graph.name = "canonical"
    model.producer_name = "maskrt"
    attached = attach_functions(model)
    onnx.checker.check_model(attached)
    return attached


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, whose progress lines and warnings are not for our users."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
