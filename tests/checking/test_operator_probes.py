"""Probes accept an NMS by definition, and reject one that is off by one comparison or more."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.checking.operator_probes import probe_operators
from maskrt.plugins import attach_functions

pytest.importorskip("onnxruntime")


def nms_model(threshold: float, agnostic: int = 0) -> onnx.ModelProto:
    node = helper.make_node(
        "BatchedNMS", ["b", "s", "l"], ["boxes", "scores", "labels", "index", "count"],
        name="nms", domain="maskrt", iou_threshold=threshold, score_threshold=0.05,
        max_outputs=20, class_agnostic=agnostic,
    )  # fmt: skip
    kinds = {"b": (TensorProto.FLOAT, [1, 50, 4]), "s": (TensorProto.FLOAT, [1, 50]),
             "l": (TensorProto.INT32, [1, 50])}  # fmt: skip
    inputs = [helper.make_tensor_value_info(n, *kind) for n, kind in kinds.items()]
    outputs = [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 20, 4])]
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("maskrt", 1)]
    graph = helper.make_graph([node], "nms", inputs, outputs)
    return attach_functions(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def with_threshold(model: onnx.ModelProto, found: float, put: float) -> onnx.ModelProto:
    """Change the number in the function, and leave the node's attribute as it was."""
    changed = 0
    for node in model.functions[0].node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            value = numpy_helper.to_array(node.attribute[0].t)
            if value.size == 1 and value.item() == np.float32(found):
                node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.float32(put)))
                changed += 1
    assert changed == 1
    return model


@pytest.mark.parametrize("agnostic", [0, 1])
@pytest.mark.parametrize("threshold", [0.3, 0.45, 0.5, 0.6, 0.7])
def test_the_definition_passes(threshold: float, agnostic: int) -> None:
    assert probe_operators(nms_model(threshold, agnostic)) == []


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_greater_or_equal_is_found(threshold: float) -> None:
    below = float(np.nextafter(np.float32(threshold), np.float32(0)))
    (sentence,) = probe_operators(with_threshold(nms_model(threshold), threshold, below))
    assert "drops a box whose IoU with a better one is equal to its threshold" in sentence


def test_another_threshold_is_found() -> None:
    (sentence,) = probe_operators(with_threshold(nms_model(0.5), 0.5, 0.6))
    assert "keeps a box whose IoU with a better one is above" in sentence


def test_a_threshold_that_no_boxes_meet_exactly_is_left_alone() -> None:
    assert probe_operators(nms_model(0.123456)) == []
