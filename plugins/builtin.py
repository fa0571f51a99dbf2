"""What the bodies for TensorRT 8.5 and 8.6 share: nodes that its own plugins run.

Those versions take no plugin written in Python, so an operator's `builtin` form stands on plugins
that TensorRT brings along. The parser finds one by `op_type`, its version by `plugin_version`, and
reads the attributes that the plugin's creator names; the domain says nothing to it, and keeps the
node out of ONNX's own. Around them stand operators that both parsers import, in a form that opset
17, the last one that they know, shares with ours.

These plugins also run in FP16, and with `BuilderFlag.FP16` the builder is free to choose that for
any layer, whatever the graph says. In FP16, coordinates above 1024 move by whole pixels, areas
overflow, and whole numbers above 2048 are not all there. So the name of every node of these bodies
starts with `FLOAT32_PREFIX`, and so does its layer's: a builder must give those layers the
precision and output type FP32, and set `OBEY_PRECISION_CONSTRAINTS`.

Source: NVIDIA/TensorRT, plugin/roiAlignPlugin, plugin/efficientNMSPlugin; onnx/onnx-tensorrt,
`FallbackPluginImporter`; both of the releases 8.5 and 8.6. Not yet run on a device.
"""

from typing import Any

import onnx
from onnx import TensorProto, helper

from ..core import UnsupportedTargetError
from .body import Body
from .operator import NodeView

__all__ = [
    "FLOAT32_PREFIX",
    "PLUGIN_DOMAIN",
    "in_float32",
    "plugin_op",
    "require_float32",
    "to_function",
]

PLUGIN_DOMAIN = "trt.plugins"
FLOAT32_PREFIX = "maskrt.float32/"


def plugin_op(body: Body, plugin: str, *inputs: str, **fields: Any) -> str:
    """Append a node that TensorRT's plugin of this name runs, and return its output's name."""
    return body.op(plugin, *inputs, domain=PLUGIN_DOMAIN, plugin_version="1", **fields)


def to_function(
    body: Body, view: NodeView, inputs: list[str], outputs: list[str]
) -> onnx.FunctionProto:
    """Return the nodes as a local function that may hold plugin nodes, named for the builder."""
    function = in_float32(body.to_function(view.function, inputs, outputs))
    function.opset_import.append(helper.make_opsetid(PLUGIN_DOMAIN, 1))
    return function


def in_float32(function: onnx.FunctionProto) -> onnx.FunctionProto:
    """Name the nodes of `function` so that the builder keeps their layers in FP32, and return it.

    A body of standard operators that both parsers import needs no more than that.
    """
    for index, node in enumerate(function.node):
        node.name = f"{FLOAT32_PREFIX}{function.name}/{node.op_type}_{index}"
    return function


def require_float32(view: NodeView, operator: str, inputs: dict[int, str]) -> None:
    """Raise `UnsupportedTargetError` unless these inputs, named by place, are FP32."""
    for place, name in inputs.items():
        if view.input_types[place] != TensorProto.FLOAT:
            kind = TensorProto.DataType.Name(view.input_types[place])
            raise UnsupportedTargetError(
                f"the {name} of {operator} are {kind}, in which coordinates above 1024 move by "
                f"whole pixels: keep what computes them in FLOAT."
            )
