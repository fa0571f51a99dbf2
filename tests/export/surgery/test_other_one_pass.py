"""Networks of one pass that are not read, each named as its users name it; and nodes in order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.checking.conversion import prove
from maskrt.core import UnsupportedModelError
from maskrt.export.surgery import export_onnx
from maskrt.export.surgery.hints import hints_of
from maskrt.export.surgery.node_order import in_order

from .one_pass_files import SIZE, Draft, detr_file, yolo11_file


def _suppressed() -> onnx.ModelProto:
    """A YOLO exported with its NMS: what it keeps is found by NonZero."""
    model = yolo11_file()
    model.graph.output[0].name = "kept"
    nodes = [
        helper.make_node("Greater", ["output0", "half"], ["likely"]),
        helper.make_node("NonZero", ["likely"], ["where"]),
        helper.make_node("Shape", ["where"], ["number"]),
        helper.make_node("Cast", ["number"], ["scale"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["scale"], ["most"], keepdims=0),
        helper.make_node("Mul", ["output0", "most"], ["kept"]),
    ]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    return model


def _rows_alone(task: str) -> onnx.ModelProto:
    model = yolo11_file()
    del model.graph.output[1]
    if not task:
        del model.metadata_props[:]
    for entry in model.metadata_props:
        if entry.key == "task":
            entry.value = task
    return model


def _without_boxes() -> onnx.ModelProto:
    model = detr_file("ec")
    del model.graph.output[0]
    return model


def _with_no_object() -> onnx.ModelProto:
    model = detr_file("ec")
    node = next(n for n in model.graph.node if n.output[0] == "output1")
    node.op_type = "Softmax"
    return model


def _dynamic_weights() -> onnx.ModelProto:
    out = Draft()
    x = out.maps("images")[0]
    kernel = out.op("ReduceMean", out.conv(x, 16, 16, 1), out.ints(2, 3), keepdims=1)
    kernel = out.op("Transpose", kernel, perm=[0, 1, 2, 3])
    masks = out.op("Conv", x, kernel, kernel_shape=[1, 1])
    sides = (1, SIZE[0] // 8, SIZE[1] // 8)
    return out.finish([(masks, sides)], {})


def _prompted() -> onnx.ModelProto:
    model = yolo11_file()
    model.graph.input.append(
        helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [1, 256, 24, 32])
    )
    del model.graph.output[1]
    return model


@pytest.mark.parametrize(("model", "words"), [
    (_suppressed, "nms=None"),
    (lambda: _rows_alone("pose"), "keypoints"),
    (lambda: _rows_alone("obb"), "rotated boxes"),
    (lambda: _rows_alone("detect"), "boxes alone"),
    (lambda: _rows_alone(""), "rows without masks"),
    (_without_boxes, "Mask2Former"),
    (_with_no_object, "one is no object"),
    (_dynamic_weights, "RTMDet-Ins"),
    (_prompted, "SAM"),
    (lambda: detr_file("ec", batch=2), "2 pictures a call"),
])  # fmt: skip
def test_what_it_is_is_said(
    model: Callable[[], onnx.ModelProto], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model(), str(path))
    with pytest.raises(UnsupportedModelError, match=words) as caught:
        export_onnx(path)
    assert "\n" not in str(caught.value)


def test_nodes_are_brought_into_order_and_left_in_it() -> None:
    model = yolo11_file()
    nodes = list(model.graph.node)
    given = [t.name for t in model.graph.initializer] + ["images"]
    assert in_order(nodes, given) == nodes
    order = np.random.default_rng(0).permutation(len(nodes))
    known = set(given)
    for node in in_order([nodes[i] for i in order], given):
        assert set(node.input) <= known
        known.update(node.output)


def test_a_circle_and_what_nothing_makes_come_last() -> None:
    nodes = [
        helper.make_node("Add", ["b", "x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Relu", ["x"], ["c"]),
    ]
    assert [n.output[0] for n in in_order(nodes, ["x"])] == ["c", "a", "b"]
    lost = [helper.make_node("Relu", ["nothing"], ["a"])]
    assert in_order(lost, []) == lost


@pytest.mark.parametrize(("text", "names"), [
    ("{0: 'a', 1: 'b'}", ("a", "b")),
    ('{"1": "b", "0": "a"}', ("a", "b")),
    ('["a", "b"]', ("a", "b")),
    ("{0: 'a', 2: 'b'}", None),
    ("__import__('os').getcwd()", None),
    ("{", None),
    ("", None),
])  # fmt: skip
def test_names_are_read_and_never_run(text: str, names: tuple[str, ...] | None) -> None:
    model = yolo11_file()
    helper.set_model_props(model, {"names": text})
    assert hints_of(model).names == names


def test_folding_stores_no_more_than_it_removes(tmp_path: Path) -> None:
    model = yolo11_file()
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    made, conv.output[0] = conv.output[0], "plain"
    sides = [SIZE[0] // 2, SIZE[1] // 2]
    given = {
        "pattern": np.linspace(0.9, 1.1, 16, dtype=np.float32).reshape(1, 16, 1, 1, 1),
        "wide": np.array([1, 16, *sides, 8]),
        "last": np.array([4]),
    }
    nodes = [
        helper.make_node("Expand", ["pattern", "wide"], ["eight"]),  # 1.5 MB of 64 bytes
        helper.make_node("Neg", ["eight"], ["less"]),
        helper.make_node("Unsqueeze", ["plain", "last"], ["tall"]),
        helper.make_node("Mul", ["tall", "less"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "last"], [made], keepdims=0),
    ]
    place = list(model.graph.node).index(conv) + 1
    rest = list(model.graph.node)[place:]
    del model.graph.node[place:]
    model.graph.node.extend([*nodes, *rest])
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in given.items())
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path))
    exported = export_onnx(path)
    assert exported.model.ByteSize() < path.stat().st_size + (1 << 18)
    assert prove(exported)["violations"] == []
