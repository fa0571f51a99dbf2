import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from maskrt.core import LAYER_PRECISIONS, Precision
from maskrt.runtime.build.layers import find_heavy_layers, name_heavy_layers

NAMES = ["body.first", "body.second", "head.up", "head.fc"]


@pytest.mark.parametrize("precision", LAYER_PRECISIONS)
def test_a_rendered_graph_says_what_each_layer_wants(small_network, precision):
    layers = find_heavy_layers(small_network(precision.value))
    assert [layer.name for layer in layers] == NAMES
    assert [layer.op_type for layer in layers] == ["Conv", "Conv", "ConvTranspose", "Gemm"]
    assert {layer.wanted for layer in layers} == {precision}


def test_a_layer_left_wide_wants_what_it_was_left_at(small_network):
    wanted = {x.name: x.wanted for x in find_heavy_layers(small_network("int8", wide=["head.up"]))}
    assert wanted.pop("head.up") is Precision.FP32
    assert set(wanted.values()) == {Precision.INT8}


def test_quantised_weights_are_a_wish_for_int8_even_where_the_data_is_float(small_network):
    layers = find_heavy_layers(small_network("int8", half_pair=["body.second"]))
    assert all(layer.wanted is Precision.INT8 for layer in layers)


def test_weights_widened_by_a_cast_want_fp16():
    weight = numpy_helper.from_array(np.ones((4, 4), np.float16), "w")
    nodes = [
        helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "wide"], ["y"], "product"),
    ]
    assert [layer.wanted for layer in find_heavy_layers(_model(nodes, [weight]))] == [
        Precision.FP16
    ]


def test_a_product_of_two_activations_is_no_layer():
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    assert find_heavy_layers(_model(nodes, [])) == []


def test_names_become_unique_and_plain_and_good_ones_stay():
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "body.relu"),
        helper.make_node("Relu", ["a"], ["b"], "body.relu"),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"], 'odd "]name{'),
    ]
    model = _model(nodes, [])
    name_heavy_layers(model)
    assert [n.name for n in model.graph.node] == [
        "body.relu",
        "body.relu_1",
        "Relu_2",
        "odd __name_",
    ]


def test_a_model_from_text():
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[1, 3, 8, 8] x, float[4, 3, 1, 1] w) => (float[1, 4, 8, 8] y) { y = Conv (x, w) }
        """
    )
    name_heavy_layers(model)
    assert [(x.name, x.wanted) for x in find_heavy_layers(model)] == [("Conv_0", Precision.FP32)]


def _model(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", TensorProto.FLOAT, [4, 4])],
        [info("y", TensorProto.FLOAT, [4, 4])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
