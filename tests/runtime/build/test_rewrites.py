"""Each rewrite replaces what it says, keeps every value, and declines near misses."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from maskrt.runtime.build.deconvolution import rewrite_int8_deconvolutions
from maskrt.runtime.build.long_topk import MOST, split_long_topk
from maskrt.runtime.build.uint8_input import cast_uint8_inputs


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


# --- deconvolution ------------------------------------------------------------------------------


def deconvolution(
    side: int = 2, *, per_channel: bool = True, bias: bool = True, zero: int = 0, **attributes
) -> onnx.ModelProto:
    """ConvTranspose of 6 to 5 channels with INT8 weights."""
    random = np.random.default_rng(0)
    group = attributes.get("group", 1)
    constants = {
        "w": random.integers(-127, 128, (6, 5 // group, side, side)).astype(np.int8),
        "s": np.float32(0.01) * (1 + random.random(5 if per_channel else ())).astype(np.float32),
        "z": np.full(5 if per_channel else (), zero, np.int8),
        "b": random.standard_normal(5).astype(np.float32),
    }
    inputs = ["x", "wide", *(["b"] if bias else [])]
    attributes = {"strides": [side, side], **attributes}
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wide"], "dq", axis=1),
        helper.make_node("ConvTranspose", inputs, ["y"], "up", **attributes),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", TensorProto.FLOAT, [2, 6, 3, 4])],
        [info("y", TensorProto.FLOAT, [2, 5, 3 * side, 4 * side])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


@pytest.mark.parametrize("side", [2, 3])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_an_int8_deconvolution_becomes_a_convolution_of_the_same_values(
    run, side, per_channel, bias
):
    model = deconvolution(side, per_channel=per_channel, bias=bias)
    before = copy_of(model)
    assert rewrite_int8_deconvolutions(model) == ["up"]
    onnx.checker.check_model(model)
    assert [n.name for n in model.graph.node if n.op_type == "Conv"] == ["up"]
    assert "ConvTranspose" not in operators(model)
    x = np.random.default_rng(1).standard_normal((2, 6, 3, 4)).astype(np.float32)
    (expected,), (found,) = run(before, {"x": x}), run(model, {"x": x})
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)  # order of six additions


@pytest.mark.parametrize(
    "miss",
    [
        {"strides": [1, 1]},
        {"pads": [1, 1, 0, 0]},
        {"output_padding": [1, 1]},
        {"dilations": [2, 2]},
        {"zero": 3},
        {"output_shape": [6, 8]},
    ],
)
def test_a_deconvolution_whose_taps_meet_or_shift_is_left_alone(miss):
    model = deconvolution(**miss)
    before = copy_of(model)
    assert rewrite_int8_deconvolutions(model) == []
    assert model == before


def test_a_float_deconvolution_is_left_alone(small_network):
    model = small_network("fp32")
    assert rewrite_int8_deconvolutions(model) == []
    assert "ConvTranspose" in operators(model)


# --- uint8 input --------------------------------------------------------------------------------


def from_text(body: str, output: str = "float[1, 3, 4, 5] y") -> onnx.ModelProto:
    text = f"""
        <ir_version: 10, opset_import: ["" : 18]>
        g (uint8[1, 4, 5, 3] images) => ({output}) {{ {body} }}
    """
    return parser.parse_model(text)


def test_a_uint8_input_is_cast_before_it_is_moved(run):
    model = from_text("t = Transpose<perm = [0, 3, 1, 2]>(images)  y = Cast<to = 1>(t)")
    before = copy_of(model)
    assert cast_uint8_inputs(model) == ["images"]
    onnx.checker.check_model(model, full_check=True)
    assert operators(model) == ["Cast", "Transpose", "Cast"]
    images = np.arange(60, dtype=np.uint8).reshape(1, 4, 5, 3) + 100
    (expected,), (found,) = run(before, {"images": images}), run(model, {"images": images})
    assert (found == expected).all()


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ("c = Cast<to = 1>(images)  y = Transpose<perm = [0, 3, 1, 2]>(c)", "float[1, 3, 4, 5] y"),
        ("y = Transpose<perm = [0, 3, 1, 2]>(images)", "uint8[1, 3, 4, 5] y"),
        ("t = Transpose(images)  m = Max(t, t)  y = Cast<to = 1>(m)", "float[3, 5, 4, 1] y"),
    ],
)
def test_an_input_that_is_cast_at_once_or_stays_uint8_is_left_alone(body, output):
    model = from_text(body, output)
    before = copy_of(model)
    assert cast_uint8_inputs(model) == []
    assert model == before


# --- TopK ---------------------------------------------------------------------------------------


def topk(count: int, *, in_node: bool = False, **attributes) -> onnx.ModelProto:
    value = numpy_helper.from_array(np.array([count], np.int64), "k")
    constant = [helper.make_node("Constant", [], ["k"], value=value)] if in_node else []
    node = helper.make_node("TopK", ["x", "k"], ["values", "indices"], "top", **attributes)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [*constant, node],
        "g",
        [info("x", TensorProto.FLOAT, [2, 9000])],
        [
            info("values", TensorProto.FLOAT, [2, count]),
            info("indices", TensorProto.INT64, [2, count]),
        ],
        [] if in_node else [value],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("in_node", [True, False])
@pytest.mark.parametrize("count", [MOST + 1, 4096, 2 * MOST, 2 * MOST + 7])
def test_a_long_topk_is_split_and_gives_the_same_with_ties(run, count, in_node):
    model = topk(count, in_node=in_node)
    before = copy_of(model)
    assert split_long_topk(model) == ["top"]
    onnx.checker.check_model(model, full_check=True)
    sizes = [numpy_helper.to_array(t).item() for t in model.graph.initializer if t.name != "k"]
    assert max(sizes) <= MOST
    assert sum(sizes) == count
    x = np.random.default_rng(0).integers(0, 500, (2, 9000)).astype(np.float32)
    for expected, found in zip(run(before, {"x": x}), run(model, {"x": x}), strict=True):
        assert (found == expected).all()


@pytest.mark.parametrize("miss", [{"largest": 0}, {"sorted": 0}])
def test_a_topk_of_another_kind_is_left_alone(miss):
    assert split_long_topk(topk(5000, **miss)) == []


def test_a_topk_within_the_limit_is_left_alone():
    assert split_long_topk(topk(MOST)) == []
