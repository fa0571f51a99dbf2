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
from torch import Tensor, nn

from ..core import InputSpec, UnsupportedModelError
from ..plugins import attach_functions
from ..plugins.operator import OPSET
from .cause import cause_of
from .passes import fold_affine_into_conv, name_nodes, strip_metadata

__all__ = ["trace"]


def trace(module: nn.Module, spec: InputSpec, output_names: Sequence[str]) -> onnx.ModelProto:
    """Export `module`, which takes `images uint8 [B, H, W, 3]`, to a canonical model.

    Args:
        module: in eval mode, with static shapes for `spec`.
        spec: the input.
        output_names: one name for each tensor that the module returns.

    Raises:
        UnsupportedModelError: the exporter cannot express a layer of the module.
    """
    images = torch.zeros(spec.shape, dtype=torch.uint8)
    with _quiet(), torch.no_grad():
        program = _export(module, images, list(output_names))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            program.save(str(file))
            model = onnx.load(str(file))
    return canonical(model)


def _export(module: nn.Module, images: Tensor, output_names: list[str]) -> torch.onnx.ONNXProgram:
    """Run the exporter; its failures, all of them `RuntimeError`, become one sentence."""
    try:
        program = torch.onnx.export(
            module,
            (images,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=output_names,
            verbose=False,
            external_data=False,
        )
    except RuntimeError as error:
        # The exporter's own error tells of its steps; what went wrong is the error beneath.
        raise UnsupportedModelError(
            f"the model cannot be exported to ONNX ({cause_of(error.__cause__ or error)}): replace "
            "the layer that this names, or write it with operators that torch.onnx knows."
        ) from error
    assert program is not None  # only dynamo=False returns nothing
    return program


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
