"""Probes: does each operator of a canonical graph do what its definition says where it matters?

A trained model on real pictures hardly ever meets the cases in which a wrong operator shows: two
boxes whose IoU is exactly the threshold are kept by every NMS of this field (greater, not greater
or equal), and one that drops them loses no AP until it meets a grid of anchors. So each node is cut
out with its own local function, and run on boxes made for the case.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ..core import require
from ..core.operator_names import operator_of

__all__ = ["probe_operators"]

_SIDE = 100.0
_STEP = 1.0
_ONNX_TYPES = {"boxes": np.float32, "scores": np.float32, "labels": np.int32}


def probe_operators(model: onnx.ModelProto) -> list[str]:
    """Return one sentence for each operator that is not what it is defined to be."""
    return [sentence for node in _nms_nodes(model) for sentence in _probe_nms(model, node)]


def _nms_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    own = [node for node in model.graph.node if node.domain == "maskrt"]
    return [node for node in own if operator_of(node.op_type) == "BatchedNMS"]


def _probe_nms(model: onnx.ModelProto, node: onnx.NodeProto) -> Iterator[str]:
    threshold = next(a.f for a in node.attribute if a.name == "iou_threshold")
    shapes = _input_shapes(model, node)
    height = float(np.round(_SIDE * threshold))
    if shapes is None or abs(height / _SIDE - threshold) > 1e-6 or not 2 < height < _SIDE - 2:
        return  # no boxes of whole pixels have this IoU exactly
    session = _session(_alone(model, node, shapes))
    cases = {height: True, height - _STEP: True, height + _STEP: False}
    for tall, kept in cases.items():
        if _keeps_second(session, node, shapes, tall) is not kept:
            relation = "equal to" if tall == height else "above" if tall > height else "below"
            yield (
                f"the BatchedNMS node {node.name} {'drops' if kept else 'keeps'} a box whose "
                f"IoU with a better one is {relation} its threshold {threshold:g}: a box is "
                "dropped if its IoU is greater, and only then."
            )


def _keeps_second(
    session: Any, node: onnx.NodeProto, shapes: list[list[int]], height: float
) -> bool:
    """Whether the second of two boxes of IoU `height` / 100 comes out."""
    batch, count = shapes[0][:2]
    boxes = np.zeros((batch, count, 4), np.float32)
    left = 1000.0 + 4.0 * np.arange(count, dtype=np.float32)
    boxes[:] = np.stack([left, 0 * left, left + 2, 0 * left + 2], axis=-1)
    boxes[:, 0] = (0, 0, _SIDE, _SIDE)
    boxes[:, 1] = (0, 0, _SIDE, height)
    scores = np.zeros((batch, count), np.float32)
    scores[:, :2] = 0.9, 0.8
    labels = np.ones((batch, count), np.int32)
    feed = dict(zip(node.input, (boxes, scores, labels), strict=False))
    found = session.run([node.output[0]], feed)[0]
    return bool((np.abs(found[0] - boxes[0, 1]).max(axis=-1) == 0).any())


def _input_shapes(model: onnx.ModelProto, node: onnx.NodeProto) -> list[list[int]] | None:
    known = {v.name: v for v in (*model.graph.value_info, *model.graph.input)}
    shapes = []
    for name in node.input:
        if name not in known:
            return None
        shapes.append([d.dim_value for d in known[name].type.tensor_type.shape.dim])
    return shapes if all(all(shape) for shape in shapes) and shapes[0][1] >= 2 else None


def _alone(
    model: onnx.ModelProto, node: onnx.NodeProto, shapes: list[list[int]]
) -> onnx.ModelProto:
    """Return a model of this one node, with its local function."""
    kinds = [helper.np_dtype_to_tensor_dtype(np.dtype(k)) for k in _ONNX_TYPES.values()]
    inputs = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in zip(node.input, kinds, shapes, strict=False)
    ]
    output = helper.make_tensor_value_info(node.output[0], kinds[0], None)
    graph = helper.make_graph([node], "probe", inputs, [output])
    own = [f for f in model.functions if f.name == node.op_type and f.overload == node.overload]
    return helper.make_model(
        graph, functions=own, opset_imports=model.opset_import, ir_version=model.ir_version
    )


def _session(model: onnx.ModelProto) -> Any:
    ort = require("onnxruntime", "probe operators")
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what is an error is raised as well
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
