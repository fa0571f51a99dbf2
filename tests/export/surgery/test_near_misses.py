"""Graphs that nearly match: each is refused, by the rule that is nearest, with its reason."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.core import InputError, MaskrtError, UnsupportedModelError
from maskrt.export.surgery import examine, export_onnx

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
Change = Callable[[onnx.ModelProto], None]


def _all(graph: onnx.GraphProto) -> Iterator[tuple[onnx.GraphProto, onnx.NodeProto]]:
    for node in graph.node:
        yield graph, node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all(attribute.g)


def _nodes(model: onnx.ModelProto, op: str, part: str = "") -> list[onnx.NodeProto]:
    """Return nodes by operator, and by a part of the name that this one exporter gives."""
    return [n for _, n in _all(model.graph) if n.op_type == op and part in n.name]


def _set(node: onnx.NodeProto, name: str, value: object) -> None:
    for attribute in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(attribute)
    node.attribute.append(helper.make_attribute(name, value))


def _feed(model: onnx.ModelProto, node: onnx.NodeProto, place: int, value: object) -> None:
    """Let input `place` of `node` be a constant of its own."""
    name = f"new_{len(model.graph.initializer)}"
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    while len(node.input) <= place:
        node.input.append("")
    node.input[place] = name


def _before(model: onnx.ModelProto, node: onnx.NodeProto, place: int, op: str) -> None:
    """Put a node `op` before input `place` of `node`."""
    fresh = f"before_{node.name}"
    extra = helper.make_node(op, [node.input[place]], [fresh], name=f"extra_{op}")
    for graph, other in _all(model.graph):
        if other is node or other == node:
            index = list(graph.node).index(other)
            graph.node.insert(index, extra)
            graph.node[index + 1].input[place] = fresh
            return
    raise AssertionError(node.name)


def _with_attribute(op: str, part: str, name: str, value: object, index: int = 0) -> Change:
    return lambda model: _set(_nodes(model, op, part)[index], name, value)


def _with_type(op: str, part: str, other: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        for node in _nodes(model, op, part):
            node.op_type = other

    return change


def _with_value(op: str, part: str, place: int, value: object, index: int = 0) -> Change:
    return lambda model: _feed(model, _nodes(model, op, part)[index], place, value)


def _with_before(op: str, part: str, place: int, extra: str) -> Change:
    return lambda model: _before(model, _nodes(model, op, part)[0], place, extra)


def _swapped_scatters(model: onnx.ModelProto) -> None:
    first, second = _nodes(model, "ScatterElements", "box_roi_pool")
    first.input[1], second.input[1] = second.input[1], first.input[1]
    second_index = list(model.graph.node).index(first)
    moved = onnx.NodeProto.FromString(first.SerializeToString())
    model.graph.node.remove(first)
    third = list(model.graph.node).index(second)
    assert third > second_index
    model.graph.node.insert(third, moved)


def _computed_iou(model: onnx.ModelProto) -> None:
    node = _nodes(model, "NonMaxSuppression")[0]
    for graph, other in _all(model.graph):
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
    conv = _nodes(model, "Conv", "stages.0")[0]
    weight = conv.input[1]
    index = list(model.graph.node).index(conv)
    picture = model.graph.input[0].name
    model.graph.node.insert(index, helper.make_node("ReduceMax", [picture], ["m"], keepdims=0))
    model.graph.node.insert(index + 1, helper.make_node("Mul", [weight, "m"], ["w"]))
    model.graph.node[index + 2].input[1] = "w"


def _unknown_operator(model: onnx.ModelProto) -> None:
    conv = _nodes(model, "Relu")[0]
    conv.domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _nothing_makes_it(model: onnx.ModelProto) -> None:
    _nodes(model, "Relu")[0].input[0] = "nowhere"


def _one_suppression(model: onnx.ModelProto) -> None:
    """Replace the last suppression's `If` by all of its boxes."""
    last = _nodes(model, "If")[-1]
    index = list(model.graph.node).index(last)
    output = last.output[0]
    model.graph.node.remove(last)
    value = numpy_helper.from_array(np.arange(3))
    model.graph.node.insert(index, helper.make_node("Constant", [], [output], value=value))


def _maxima(model: onnx.ModelProto) -> None:
    for node in _nodes(model, "RoiAlign"):
        _set(node, "mode", "max")


def _level_of_the_width(model: onnx.ModelProto) -> None:
    area = _nodes(model, "Mul", "box_roi_pool/Mul")[0]
    area.input[1] = area.input[0]


def _sigmoid_scores(model: onnx.ModelProto) -> None:
    (node,) = _nodes(model, "Softmax")
    node.op_type = "Sigmoid"
    del node.attribute[:]


_F, _I = np.float32, np.int64
_BASE = "/roi_heads/box_roi_pool/"
_CHANGED: list[tuple[str, Change, str]] = [
    ("RoiAlign takes maxima", _maxima, "pyramid.*maximum"),
    (
        "other sampling on one level",
        _with_attribute("RoiAlign", "box", "sampling_ratio", 1),
        "pyramid.*attributes differ",
    ),
    (
        "other alignment on one level",
        _with_attribute("RoiAlign", "box", "coordinate_transformation_mode", "half_pixel"),
        "pyramid.*attributes differ",
    ),
    (
        "level is rounded up",
        _with_type("Floor", "box_roi_pool", "Ceil"),
        "pyramid.*not the floor of a logarithm",
    ),
    (
        "level of the root",
        _with_type("Log", "box_roi_pool", "Sqrt"),
        "pyramid.*not the floor of a logarithm",
    ),
    (
        "level of the exponential",
        _with_before("Floor", "box_roi_pool", 0, "Neg"),
        "pyramid.*goes to level",
    ),
    ("level of the width alone", _level_of_the_width, "pyramid.*goes to level"),
    (
        "activation before the scatter",
        _with_before("ScatterElements", "box_roi_pool", 2, "Relu"),
        "pyramid.*not scattered to the rows of its boxes",
    ),
    ("scattered to other rows", _swapped_scatters, "pyramid.*scattered to other rows"),
    (
        "other columns of the RoIs",
        _with_value("Gather", "box_roi_pool/Gather_6", 1, np.array([0, 1, 2, 3], _I)),
        "pyramid.*other columns",
    ),
    (
        "rows above a level",
        _with_type("Equal", "box_roi_pool/Equal", "Greater"),
        "pyramid.*not those of one level",
    ),
    ("computed IoU threshold", _computed_iou, "suppression.*IoU threshold is computed"),
    (
        "boxes by their centres",
        _with_attribute("NonMaxSuppression", "", "center_point_box", 1),
        "suppression.*centre and size",
    ),
    (
        "score threshold inside",
        _with_value("NonMaxSuppression", "", 4, np.array([0.3], _F)),
        "suppression.*score threshold of its own",
    ),
    (
        "offsets from the least box",
        _with_type("ReduceMax", "", "ReduceMin"),
        "suppression.*no offset of labels",
    ),
    ("one suppression alone", _one_suppression, "1 NonMaxSuppression"),
    (
        "smallest scores first",
        _with_attribute("TopK", "rpn", "largest", 0),
        "proposals.*largest scores",
    ),
    (
        "objectness by tanh",
        _with_type("Sigmoid", "rpn", "Tanh"),
        "proposals.*sigmoid of the objectness",
    ),
    (
        "sides not exponential",
        _with_type("Exp", "rpn", "Softplus"),
        "proposals.*not decoded as centre and size",
    ),
    (
        "anchors moved by products",
        _with_type("Sub", "rpn/Sub_2", "Max"),
        "proposals.*(empty boxes|does not move)",
    ),
    (
        "clipped beyond the picture",
        _with_value("Min", "rpn/Min", 1, np.array(130.0, _F)),
        "clipped to",
    ),
    (
        "not clipped below",
        _with_value("Max", "rpn/Max", 1, np.array(-5.0, _F)),
        "proposals.*not clipped",
    ),
    (
        "sides below a number",
        _with_type("GreaterOrEqual", "roi_heads", "LessOrEqual"),
        "detections.*below a threshold",
    ),
    (
        "threshold itself kept",
        _with_type("Greater", "roi_heads", "GreaterOrEqual"),
        "detections.*equal to the threshold is kept",
    ),
    (
        "scores below a threshold",
        _with_type("Greater", "roi_heads", "Less"),
        "detections.*below a threshold",
    ),
    (
        "softmax over proposals",
        _with_attribute("Softmax", "", "axis", 0),
        "detections.*softmax over the classes",
    ),
    ("sigmoid scores", _sigmoid_scores, "detections.*not one softmax"),
    (
        "background is a class",
        _with_value("Slice", "roi_heads/Slice_9", 1, np.array([0], _I)),
        "detections.*all classes but the first",
    ),
    (
        "other class's codes",
        _with_value("Slice", "roi_heads/Slice_8", 1, np.array([0], _I)),
        "detections.*each class but the background",
    ),
    (
        "no limit of detections",
        _with_value("Slice", "roi_heads/Slice_11", 2, np.array([2**31 - 1], _I)),
        "detections.*no limit",
    ),
    (
        "no limit of proposals",
        _with_value("Slice", "rpn/Slice_9", 2, np.array([2**31 - 1], _I)),
        "proposals.*no limit",
    ),
    ("mask of no class", _with_type("Sigmoid", "roi_heads", "Relu"), "masks.*not the sigmoid"),
    (
        "mask of the next class",
        _with_value("Mul", "roi_heads/Mul_8", 1, np.array([4], _I)),
        "masks.*another class",
    ),
    ("masks that are none", _masks_replaced, "a mask head to make a fourth is missing"),
    (
        "picture squared",
        _with_before("Sub", "transform", 0, "Exp"),
        "preprocessing.*channel by channel",
    ),
    ("a free picture size", _dynamic_picture, "preprocessing.*input has the shape"),
    ("a second input", _second_input, "has 2 inputs"),
    ("a fifth output", _more_outputs("/rpn/Sigmoid_output_0"), "has 5 outputs"),
    ("scores are no output", _scores_not_shown, "scores of the detections are no output"),
    ("boxes changed at the end", _boxes_moved, "not merely scaled"),
    ("weights from the picture", _weights_of_the_picture, "layers.*outside the backbone"),
    ("no layer in the backbone", _with_type("Relu", "backbone/stem", "IsNaN"), "declined"),
    (
        "rounding in the backbone",
        _with_type("Relu", "backbone/stem", "Round"),
        "layers.*Round is no layer",
    ),
    ("a fused operator", _unknown_operator, "not one of ONNX's own"),
]


@pytest.mark.parametrize(
    ("change", "reason"), [row[1:] for row in _CHANGED], ids=[row[0] for row in _CHANGED]
)
def test_changed_graph_is_declined(
    change: Change, reason: str, graph: onnx.ModelProto, tmp_path: Path
) -> None:
    change(graph)
    onnx.save(graph, tmp_path / "near.onnx")
    first, *_ = examine(tmp_path / "near.onnx").declined
    assert re.search(reason, str(first)), str(first)
    assert "\n" not in str(first)


@pytest.mark.parametrize("row", [0, 10, 20, 30, 40])
def test_what_is_declined_is_refused(row: int, graph: onnx.ModelProto, tmp_path: Path) -> None:
    _, change, reason = _CHANGED[row]
    change(graph)
    onnx.save(graph, tmp_path / "near.onnx")
    with pytest.raises(UnsupportedModelError, match=f"is not understood: the rule .*{reason}"):
        export_onnx(tmp_path / "near.onnx")


def test_there_are_enough() -> None:
    assert len(_CHANGED) >= 30


def test_unchanged_graph_is_accepted(graph: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(graph, tmp_path / "same.onnx")
    assert export_onnx(tmp_path / "same.onnx").model.graph.node


def test_broken_graph(graph: onnx.ModelProto, tmp_path: Path) -> None:
    _nodes(graph, "Relu")[0].input[0] = "nowhere"
    onnx.save(graph, tmp_path / "near.onnx")
    with pytest.raises(InputError, match="reads 'nowhere', which nothing before it makes"):
        export_onnx(tmp_path / "near.onnx")


def test_truncated_file(small: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(small.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"damaged|which nothing before it makes"):
        export_onnx(tmp_path / "cut.onnx")


@pytest.mark.parametrize("content", [b"", b"this is no model", bytes(range(256)) * 10])
def test_no_onnx_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(content)
    with pytest.raises(InputError, match="damaged or no ONNX file"):
        export_onnx(tmp_path / "no.onnx")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        export_onnx(tmp_path / "nowhere.onnx")


def test_missing_external_data(graph: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(graph, tmp_path / "m.onnx", save_as_external_data=True, location="m.data",
              size_threshold=0)  # fmt: skip
    assert export_onnx(tmp_path / "m.onnx").model.graph.node
    (tmp_path / "m.data").unlink()
    with pytest.raises(InputError, match="keeps its weights in another file"):
        export_onnx(tmp_path / "m.onnx")


def test_old_opset(graph: onnx.ModelProto, tmp_path: Path) -> None:
    graph.opset_import[0].version = 9
    onnx.save(graph, tmp_path / "old.onnx")
    with pytest.raises(UnsupportedModelError, match="has opset 9, and surgery reads 11 to"):
        export_onnx(tmp_path / "old.onnx")


_SINGLES = {
    "no detector": ("y = Relu (x)", "no RoiAlign"),
    "RoiAlign alone": (
        "b = Constant <value = float[2,4] {0., 0., 9., 9., 1., 1., 5., 5.}> ()\n"
        "i = Constant <value = int64[2] {0, 0}> ()\n"
        "y = RoiAlign <output_height = 2, output_width = 2> (x, b, i)", "no NonMaxSuppression",
    ),
    "NonMaxSuppression alone": (
        "y = NonMaxSuppression (x, x)", "no RoiAlign, so it is no two-stage detector",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        ("EfficientNMS_ONNX_TRT", "EfficientNMS_ONNX_TRT.*before that step"),
        ("NMS_TRT", "NMS_TRT.*before that step"),
        ("ProposalLayer_TRT", "ProposalLayer_TRT.*before that step"),
        ("DetectionLayer_TRT", "DetectionLayer_TRT.*before that step"),
        ("EfficientNMS_TRT", "preprocessing declined: no layer reads the picture"),
        ("PyramidROIAlign_TRT", "preprocessing declined: no layer reads the picture"),
    ],
)
def test_plugin_that_no_rule_maps_is_refused(op: str, reason: str, tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 32, 32]) for n in "xy")
    graph = helper.make_graph([helper.make_node(op, ["x", "x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "plugin.onnx")
    with pytest.raises(UnsupportedModelError, match=reason):
        export_onnx(tmp_path / "plugin.onnx")


@pytest.mark.parametrize("name", _SINGLES)
def test_part_of_a_detector_is_refused(name: str, tmp_path: Path) -> None:
    body, reason = _SINGLES[name]
    text = (
        '<ir_version: 8, opset_import: ["" : 17]>\n'
        f"g (float[1, 3, 32, 32] x) => (float y) {{\n{body}\n}}"
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "part.onnx")
    with pytest.raises(MaskrtError, match=reason):
        export_onnx(tmp_path / "part.onnx")
