"""MatrixNMS for TensorRT 8.5 and 8.6: the ONNX function, in FP32.

Their parser imports all that it holds (`CumSum` since 8.0, of floats). Not yet run on a device.
"""

import onnx

from .. import builtin
from ..operator import NodeView
from . import function

__all__ = ["make_function"]


def make_function(view: NodeView) -> onnx.FunctionProto:
    """Return the local function for this node."""
    return builtin.in_float32(function.make_function(view))
