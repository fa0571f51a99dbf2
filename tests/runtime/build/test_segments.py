"""Everything between the plugins goes through a real TensorRT, on a machine without a GPU."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.core import Target, UnsupportedTargetError
from maskrt.runtime.build.segments import check_segments, cut_segments

ORIN = Target.parse("orin-nx")
NMS = {"iou_threshold": 0.5, "score_threshold": 0.1, "max_outputs": 5, "class_agnostic": 0}


def _graph(middle: str = "Sigmoid", shaped: bool = True) -> onnx.ModelProto:
    """boxes -> Abs -> BatchedNMS -> `middle`; scores -> shared constant -> BatchedNMS."""
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Constant", [], ["one"], "one",
                         value=numpy_helper.from_array(np.float32(1))),
        helper.make_node("Add", ["boxes", "one"], ["moved"], "add"),
        helper.make_node("Mul", ["scores", "one"], ["same"], "mul"),
        helper.make_node("BatchedNMS", ["moved", "same", "labels"], ["b", "s", "l", "i", "n"],
                         "nms", domain="maskrt", **NMS),
        helper.make_node(middle, ["s"], ["out"], "middle"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g",
        [info("boxes", TensorProto.FLOAT, [1, 9, 4]), info("scores", TensorProto.FLOAT, [1, 9]),
         info("labels", TensorProto.INT32, [1, 9])],
        [info("out", TensorProto.FLOAT, [1, 5]), info("n", TensorProto.INT32, [1])],
        value_info=[info("s", TensorProto.FLOAT, [1, 5] if shaped else None)],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("maskrt", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_segments_are_what_is_left_between_the_plugins() -> None:
    segments = cut_segments(_graph())
    found = [
        ([n.name for n in s.graph.node], [i.name for i in s.graph.input],
         [o.name for o in s.graph.output])
        for s in segments
    ]  # fmt: skip
    assert found == [
        (["one", "add"], ["boxes"], ["moved"]),  # the constant is each segment's own
        (["one", "mul"], ["scores"], ["same"]),
        (["middle"], ["s"], ["out"]),
    ]
    for segment in segments:
        onnx.checker.check_model(segment, full_check=True)


def test_a_boundary_without_a_type_is_refused() -> None:
    with pytest.raises(UnsupportedTargetError, match=r"tensor 's' between a plugin"):
        cut_segments(_graph(shaped=False))


@pytest.mark.rtx
def test_each_segment_is_built() -> None:
    reports = check_segments(_graph(), ORIN)
    assert [(r.first, r.last) for r in reports] == [("one", "add"), ("one", "mul"), ("middle",) * 2]
    assert all(report.bytes > 1000 for report in reports)


@pytest.mark.rtx
def test_what_tensorrt_does_not_take_is_named() -> None:
    with pytest.raises(UnsupportedTargetError, match=r"target orin-nx"):
        check_segments(_graph("Det"), ORIN)
