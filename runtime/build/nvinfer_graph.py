"""A graph as Gst-nvinfer takes it, which is not how maskrt's own runtime does.

| | maskrt | nvinfer |
|---|---|---|
| input `images` | uint8 `[B, H, W, 3]` | float32 `[B, 3, H, W]`, the same numbers |
| output `count` | int32 `[B]` | int32 `[B, 1]` |
| letterbox | filled with `pad_value` | filled with black, so the graph takes that for the filling |
| output `masks`, of the canvas | float32 `[B, D, h, w]` | float32 `[B, D, 64, 64]`, of the box |

nvinfer's preprocessing writes floats into whatever the input is, knows no uint8 (`getElementSize`),
and stops at an output that has no dimension beside the batch (`normalizeDims`, then an assertion in
`allocateBuffers`). It lays a mask over its box (`canvas_to_boxes.py`). The other outputs stay as
they are.

Source: sources/libs/nvdsinfer in DeepStream: nvdsinfer_context_impl.cpp, nvdsinfer_func_utils.cpp.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...core import FILLING, Target, UnsupportedTargetError
from ...core.masks import MaskFrame
from .canvas_to_boxes import lay_over_boxes
from .prepare import standard_graph

__all__ = ["nvinfer_graph", "suit_nvinfer"]


def nvinfer_graph(
    rendered: onnx.ModelProto, target: Target, frame: MaskFrame = MaskFrame.BOX
) -> onnx.ModelProto:
    """Return a rendered canonical graph in standard operators, with nvinfer's input and outputs.

    Args:
        rendered: the graph.
        target: the device.
        frame: what its masks are spread over.
    """
    model = standard_graph(rendered, target)
    if frame is not MaskFrame.BOX:
        _, height, width, _ = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
        lay_over_boxes(model, frame, (height, width))
    suit_nvinfer(model)
    return model


def suit_nvinfer(model: onnx.ModelProto) -> None:
    """Change the input `images` and the output `count` in place, as the module's table says."""
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.name == FILLING:
            black = np.zeros(tuple(tensor.dims), np.float32)
            tensor.CopyFrom(numpy_helper.from_array(black, FILLING))
    _take_float_planes(graph)
    _give_count_a_dimension(graph)
    del graph.value_info[:]
    onnx.checker.check_model(model)


def _take_float_planes(graph: onnx.GraphProto) -> None:
    (images,) = graph.input
    shape = images.type.tensor_type.shape
    batch, height, width, channels = (d.dim_value for d in shape.dim)
    readers = [node for node in graph.node if "images" in node.input]
    if any(node.op_type != "Cast" for node in readers):  # a sum of uint8 is not one of floats
        raise UnsupportedTargetError(
            f"the graph reads its uint8 pictures in {readers[0].op_type} before it makes floats of "
            "them, and DeepStream gives it floats: cast them first."
        )
    for node in graph.node:
        node.input[:] = ["images.interleaved" if i == "images" else i for i in node.input]
    planes = helper.make_node(
        "Transpose", ["images"], ["images.interleaved"], "images.interleave", perm=[0, 2, 3, 1]
    )
    graph.node.insert(0, planes)
    images.CopyFrom(
        helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, channels, height, width])
    )


def _give_count_a_dimension(graph: onnx.GraphProto) -> None:
    (count,) = (output for output in graph.output if output.name == "count")
    (batch,) = (d.dim_value for d in count.type.tensor_type.shape.dim)
    for node in graph.node:
        node.input[:] = ["count.flat" if i == "count" else i for i in node.input]
        node.output[:] = ["count.flat" if o == "count" else o for o in node.output]
    shape = numpy_helper.from_array(np.array([batch, 1], np.int64), "count.shape")
    graph.initializer.append(shape)
    graph.node.append(
        helper.make_node("Reshape", ["count.flat", "count.shape"], ["count"], "count.reshape")
    )
    count.CopyFrom(helper.make_tensor_value_info("count", TensorProto.INT32, [batch, 1]))
