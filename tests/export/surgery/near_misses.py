"""Changes after which a graph only nearly matches, each with the reason to be given for it."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .graph_edits import (
    Change,
    all_nodes,
    nodes,
    set_attribute,
    with_attribute,
    with_before,
    with_type,
    with_value,
)

__all__ = ["CHANGED"]


def _swapped_scatters(model: onnx.ModelProto) -> None:
    first, second = nodes(model, "ScatterElements", "box_roi_pool")
    first.input[1], second.input[1] = second.input[1], first.input[1]
    second_index = list(model.graph.node).index(first)
    moved = onnx.NodeProto.FromString(first.SerializeToString())
    model.graph.node.remove(first)
    third = list(model.graph.node).index(second)
    assert third > second_index
    model.graph.node.insert(third, moved)


def _computed_iou(model: onnx.ModelProto) -> None:
    node = nodes(model, "NonMaxSuppression")[0]
    for graph, other in all_nodes(model.graph):
        if other == node:
            index = list(graph.node).index(other)
            graph.node.insert(index, helper.make_node("ReduceMean", [node.input[1]], ["iou"],
                                                      keepdims=0))  # fmt: skip
            graph.node[index + 1].input[3] = "iou"
            return


def _more_outputs(name: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    return change


def _scores_not_shown(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Neg", [model.graph.output[2].name], ["negated"]))
    model.graph.output[2].name = "negated"


def _boxes_moved(model: onnx.ModelProto) -> None:
    boxes = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Exp", [boxes], ["moved"]))
    model.graph.output[0].name = "moved"


def _masks_replaced(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Neg", [model.graph.output[0].name], ["no_masks"]))
    model.graph.output[3].name = "no_masks"


def _dynamic_picture(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"


def _second_input(model: onnx.ModelProto) -> None:
    info = helper.make_tensor_value_info("second", TensorProto.FLOAT, [1])
    model.graph.input.append(info)


def _weights_of_the_picture(model: onnx.ModelProto) -> None:
    conv = nodes(model, "Conv", "stages.0")[0]
    weight = conv.input[1]
    index = list(model.graph.node).index(conv)
    picture = model.graph.input[0].name
    model.graph.node.insert(index, helper.make_node("ReduceMax", [picture], ["m"], keepdims=0))
    model.graph.node.insert(index + 1, helper.make_node("Mul", [weight, "m"], ["w"]))
    model.graph.node[index + 2].input[1] = "w"


def _unknown_operator(model: onnx.ModelProto) -> None:
    conv = nodes(model, "Relu")[0]
    conv.domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _one_suppression(model: onnx.ModelProto) -> None:
    """Replace the last suppression's `If` by all of its boxes."""
    last = nodes(model, "If")[-1]
    index = list(model.graph.node).index(last)
    output = last.output[0]
    model.graph.node.remove(last)
    value = numpy_helper.from_array(np.arange(3))
    model.graph.node.insert(index, helper.make_node("Constant", [], [output], value=value))


def _maxima(model: onnx.ModelProto) -> None:
    for node in nodes(model, "RoiAlign"):
        set_attribute(node, "mode", "max")


def _level_of_the_width(model: onnx.ModelProto) -> None:
    area = nodes(model, "Mul", "box_roi_pool/Mul")[0]
    area.input[1] = area.input[0]


def _sigmoid_scores(model: onnx.ModelProto) -> None:
    (node,) = nodes(model, "Softmax")
    node.op_type = "Sigmoid"
    del node.attribute[:]


_F, _I = np.float32, np.int64
CHANGED: list[tuple[str, Change, str]] = [
    ("RoiAlign takes maxima", _maxima, "pyramid.*maximum"),
    (
        "other sampling on one level",
        with_attribute("RoiAlign", "box", "sampling_ratio", 1),
        "pyramid.*attributes differ",
    ),
    (
        "other alignment on one level",
        with_attribute("RoiAlign", "box", "coordinate_transformation_mode", "half_pixel"),
        "pyramid.*attributes differ",
    ),
    (
        "level is rounded up",
        with_type("Floor", "box_roi_pool", "Ceil"),
        "pyramid.*not the floor of a logarithm",
    ),
    (
        "level of the root",
        with_type("Log", "box_roi_pool", "Sqrt"),
        "pyramid.*not the floor of a logarithm",
    ),
    (
        "level of the exponential",
        with_before("Floor", "box_roi_pool", 0, "Neg"),
        "pyramid.*goes to level",
    ),
    ("level of the width alone", _level_of_the_width, "pyramid.*goes to level"),
    (
        "activation before the scatter",
        with_before("ScatterElements", "box_roi_pool", 2, "Relu"),
        "pyramid.*not scattered to the rows of its boxes",
    ),
    ("scattered to other rows", _swapped_scatters, "pyramid.*scattered to other rows"),
    (
        "other columns of the RoIs",
        with_value("Gather", "box_roi_pool/Gather_6", 1, np.array([0, 1, 2, 3], _I)),
        "pyramid.*other columns",
    ),
    (
        "rows above a level",
        with_type("Equal", "box_roi_pool/Equal", "Greater"),
        "pyramid.*not those of one level",
    ),
    ("computed IoU threshold", _computed_iou, "suppression.*IoU threshold is computed"),
    (
        "boxes by their centres",
        with_attribute("NonMaxSuppression", "", "center_point_box", 1),
        "suppression.*centre and size",
    ),
    (
        "score threshold inside",
        with_value("NonMaxSuppression", "", 4, np.array([0.3], _F)),
        "suppression.*score threshold of its own",
    ),
    (
        "offsets from the least box",
        with_type("ReduceMax", "", "ReduceMin"),
        "suppression.*no offset of labels",
    ),
    ("one suppression alone", _one_suppression, "1 NonMaxSuppression"),
    (
        "smallest scores first",
        with_attribute("TopK", "rpn", "largest", 0),
        "proposals.*largest scores",
    ),
    (
        "objectness by tanh",
        with_type("Sigmoid", "rpn", "Tanh"),
        "proposals.*sigmoid of the objectness",
    ),
    (
        "sides not exponential",
        with_type("Exp", "rpn", "Softplus"),
        "proposals.*not decoded as centre and size",
    ),
    (
        "anchors moved by products",
        with_type("Sub", "rpn/Sub_2", "Max"),
        "proposals.*(empty boxes|does not move)",
    ),
    (
        "clipped beyond the picture",
        with_value("Min", "rpn/Min", 1, np.array(130.0, _F)),
        "clipped to",
    ),
    (
        "not clipped below",
        with_value("Max", "rpn/Max", 1, np.array(-5.0, _F)),
        "proposals.*not clipped",
    ),
    (
        "sides below a number",
        with_type("GreaterOrEqual", "roi_heads", "LessOrEqual"),
        "detections.*below a threshold",
    ),
    (
        "threshold itself kept",
        with_type("Greater", "roi_heads", "GreaterOrEqual"),
        "detections.*equal to the threshold is kept",
    ),
    (
        "scores below a threshold",
        with_type("Greater", "roi_heads", "Less"),
        "detections.*below a threshold",
    ),
    (
        "softmax over proposals",
        with_attribute("Softmax", "", "axis", 0),
        "detections.*softmax over the classes",
    ),
    ("sigmoid scores", _sigmoid_scores, "detections.*not one softmax"),
    (
        "background is a class",
        with_value("Slice", "roi_heads/Slice_9", 1, np.array([0], _I)),
        "detections.*all classes but the first",
    ),
    (
        "other class's codes",
        with_value("Slice", "roi_heads/Slice_8", 1, np.array([0], _I)),
        "detections.*each class but the background",
    ),
    (
        "no limit of detections",
        with_value("Slice", "roi_heads/Slice_11", 2, np.array([2**31 - 1], _I)),
        "detections.*no limit",
    ),
    (
        "no limit of proposals",
        with_value("Slice", "rpn/Slice_9", 2, np.array([2**31 - 1], _I)),
        "proposals.*no limit",
    ),
    ("mask of no class", with_type("Sigmoid", "roi_heads", "Relu"), "masks.*not the sigmoid"),
    (
        "mask of the next class",
        with_value("Mul", "roi_heads/Mul_8", 1, np.array([4], _I)),
        "masks.*another class",
    ),
    ("masks that are none", _masks_replaced, "a mask head to make a fourth is missing"),
    (
        "picture squared",
        with_before("Sub", "transform", 0, "Exp"),
        "preprocessing.*channel by channel",
    ),
    ("a free picture size", _dynamic_picture, "preprocessing.*size of its picture is not fixed"),
    ("a second input", _second_input, "has 2 inputs"),
    ("a fifth output", _more_outputs("/rpn/Sigmoid_output_0"), "has 5 outputs"),
    ("scores are no output", _scores_not_shown, "scores of the detections are no output"),
    ("boxes changed at the end", _boxes_moved, "not merely scaled"),
    ("weights from the picture", _weights_of_the_picture, "layers.*outside the backbone"),
    ("no layer in the backbone", with_type("Relu", "backbone/stem", "IsNaN"), "declined"),
    (
        "rounding in the backbone",
        with_type("Relu", "backbone/stem", "Round"),
        "layers.*Round is no layer",
    ),
    ("a fused operator", _unknown_operator, "not one of ONNX's own"),
]
