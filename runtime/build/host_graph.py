"""A rendered graph as ONNX Runtime runs it, without the checks and the record of a build."""

import onnx

from ...core import Target
from .float_layers import keep_float_layers
from .half import make_rounding_explicit
from .lowered import lower_for

__all__ = ["host_graph"]


def host_graph(model: onnx.ModelProto) -> bytes:
    """Return the `engine.onnx` that a build for target `cpu` would make of a rendered graph."""
    lowered = lower_for(Target.parse("cpu"), model, "function")
    keep_float_layers(lowered.model, lowered.layers)
    make_rounding_explicit(lowered.model)
    return lowered.model.SerializeToString()
