"""Graphs that parse and that no exporter writes are refused before rules read them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from maskrt.core import InputError
from maskrt.export.surgery.evaluation import proto_of
from maskrt.export.surgery.graph import Node
from maskrt.export.surgery.onnx_file import load_onnx
from maskrt.export.surgery.well_formed import malformed

from .one_pass_files import detr_file, yolo5_file, yolo11_file, yolo26_file


def _small() -> onnx.ModelProto:
    """An If whose branches hold a Constant each, after a Conv."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    body = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(3)))],
        "body", [], [helper.make_tensor_value_info("c", TensorProto.DOUBLE, [3])],
    )  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["v"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Cast", ["v"], ["t"], "cast", to=TensorProto.BOOL),
        helper.make_node("If", ["t"], ["y"], "if", then_branch=body, else_branch=body),
    ]
    weight = numpy_helper.from_array(np.ones((3, 2, 3, 3), np.float32), "w")
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


Break = Callable[[onnx.GraphProto], object]
DAMAGED: dict[str, tuple[Break, str]] = {
    "shape": (lambda g: g.initializer[0].dims.append(5), "'w' does not have the numbers"),
    "vast": (lambda g: g.initializer[0].dims.__setitem__(0, 1 << 62), "does not have the numbers"),
    "negative": (lambda g: g.initializer[0].dims.__setitem__(0, -3), "does not have the numbers"),
    "kind": (lambda g: setattr(g.initializer[0], "data_type", 99), "does not have the numbers"),
    "bytes": (lambda g: setattr(g.initializer[0], "raw_data", b"abc"), "does not have the numbers"),
    "required": (lambda g: g.node[1].ClearField("attribute"), "'cast' lacks its attribute to"),
    "body": (lambda g: g.node[2].attribute.pop(), "If 'if' lacks its attribute"),
    "no body": (lambda g: g.node[2].attribute[0].ClearField("g"), "of another type"),
    "type": (
        lambda g: setattr(g.node[0].attribute[0], "type", AttributeProto.FLOAT),
        "Conv 'conv' has an attribute pads of another type",
    ),
    "nameless": (
        lambda g: setattr(g.node[0].attribute[0], "name", ""),
        "Conv 'conv' has an attribute whose name is no text",
    ),
    "twice": (lambda g: g.node[0].attribute.append(g.node[0].attribute[0]), "attribute twice"),
    "few": (lambda g: g.node[0].input.pop(), "Conv 'conv' has 1 inputs"),
    "many": (lambda g: g.node[0].input.extend(["x", "x"]), "Conv 'conv' has 4 inputs"),
    "left out": (lambda g: g.node[0].input.__setitem__(1, ""), "lacks an input or output"),
    "no output": (lambda g: g.node[0].output.pop(), "Conv 'conv' has 0 outputs"),
    "face": (
        lambda g: setattr(g.input[0].type.tensor_type, "elem_type", 77),
        "'x' has a type or shape that is none",
    ),
    "inside": (
        lambda g: g.node[2].attribute[0].g.node[0].attribute[0].t.dims.append(7),
        "does not have the numbers",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_named(name: str, tmp_path: Path) -> None:
    breaks, words = DAMAGED[name]
    model = _small()
    assert malformed(model) is None
    breaks(model.graph)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"m\.onnx is damaged \(") as caught:
        load_onnx(tmp_path / "m.onnx")
    assert words in str(caught.value)


def test_a_name_that_is_no_text_is_named(tmp_path: Path) -> None:
    raw = _small().SerializeToString().replace(b"conv", b"c\xffnv")
    (tmp_path / "m.onnx").write_bytes(raw)
    with pytest.raises(InputError, match="damaged"):
        load_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("made", [yolo5_file, yolo11_file, yolo26_file, detr_file])
def test_files_of_exporters_are_well_formed(made: Callable[[], onnx.ModelProto]) -> None:
    assert malformed(made()) is None


def test_an_empty_list_stays_a_list_of_whole_numbers() -> None:
    made = proto_of(Node("Squeeze", ("x",), ("y",), {"axes": []}))
    assert [(a.name, a.type) for a in made.attribute] == [("axes", AttributeProto.INTS)]
