"""Each rewrite replaces what it says, keeps every value, and declines near misses."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from maskrt.plugins import lower
from maskrt.runtime.build.deconvolution import rewrite_int8_deconvolutions
from maskrt.runtime.build.half_features import narrow_roialign
from maskrt.runtime.build.long_topk import MOST, split_long_topk
from maskrt.runtime.build.single_rows import sum_single_rows
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


# --- FP16 features ------------------------------------------------------------------------------


def pooled_features(
    *, widened: bool = True, rounded: bool = True, more: str = ""
) -> onnx.ModelProto:
    """FP16 levels, cast to FP32 for RoIAlign, whose result is moved and cast to FP16."""
    half, full = TensorProto.FLOAT16, TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["x0"], ["level0"], "widen0", to=full),
        helper.make_node("Cast", ["x1"], ["level1"], "widen1", to=full)
        if widened
        else helper.make_node("Identity", ["x1"], ["level1"], "same"),
        helper.make_node(
            "MultilevelRoIAlign", ["boxes", "level0", "level1"], ["pooled"], "pool",
            domain="maskrt", output_height=2, output_width=2, sampling_ratio=2, aligned=0,
            mode="avg", spatial_scales=[0.5, 0.25], canonical_scale=8.0, canonical_level=2,
            level_epsilon=1e-6, min_level=2,
        ),
        helper.make_node("Reshape", ["pooled", "shape"], ["moved"], "move"),
        helper.make_node("Cast", ["moved"], ["out"], "round", to=half if rounded else full),
    ]  # fmt: skip
    if more:
        nodes.append(helper.make_node(more, ["moved"], ["other"], "other"))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g",
        [info("x0", half, [2, 3, 16, 16]), info("x1", half if widened else full, [2, 3, 8, 8]),
         info("boxes", full, [2, 6, 4])],
        [info("out", half if rounded else full, None)]
        + ([info("other", full, None)] if more else []),
        [numpy_helper.from_array(np.array([12, 3, 2, 2]), "shape")],
        value_info=[info("level0", full, [2, 3, 16, 16]), info("level1", full, [2, 3, 8, 8]),
                    info("pooled", full, [2, 6, 3, 2, 2])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("maskrt", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_roialign_reads_fp16_levels_and_no_number_changes(run):
    model = pooled_features()
    before = copy_of(model)
    assert narrow_roialign(model) == ["pool"]
    (node,) = [n for n in model.graph.node if n.op_type == "MultilevelRoIAlign"]
    assert list(node.input) == ["boxes", "x0", "x1"]
    random = np.random.default_rng(0)
    start = random.uniform(-4, 24, (2, 6, 2))
    feeds = {
        "x0": random.standard_normal((2, 3, 16, 16)).astype(np.float16),
        "x1": random.standard_normal((2, 3, 8, 8)).astype(np.float16),
        "boxes": np.concatenate([start, start + random.uniform(0, 20, (2, 6, 2))], -1).astype("f"),
    }
    (expected,) = run(lower(before, "pluginless"), feeds)
    (found,) = run(lower(model, "pluginless"), feeds)
    assert found.dtype == np.float16
    assert np.abs(expected).max() > 0.1
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "miss",
    [{"widened": False}, {"rounded": False}, {"more": "Abs"}],
    ids=["an FP32 level", "a result that stays FP32", "another reader"],
)
def test_roialign_whose_numbers_would_change_is_left_alone(miss):
    model = pooled_features(**miss)
    before = model.SerializeToString()
    assert narrow_roialign(model) == []
    assert model.SerializeToString() == before


# --- products of one row ------------------------------------------------------------------------


def row_product(rows: int = 1, kind: str = "float16", constant: bool = False) -> onnx.ModelProto:
    """A weight of each picture by its features, `[3, 1, rows, 8]` by `[3, 2, 8, 5]`."""
    weights = (
        f"<{kind}[3, 1, {rows}, 8] a = {{{', '.join(['1'] * 24 * rows)}}}>" if constant else ""
    )
    given = "" if constant else f"{kind}[3, 1, {rows}, 8] a, "
    return parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 19]>
        g ({given}{kind}[3, 2, 8, 5] b) => ({kind}[3, 2, {rows}, 5] y) {weights}
        {{ moved = Identity (b) y = MatMul (a, moved) }}"""
    )


@pytest.mark.parametrize("kind", ["float", "float16"])
def test_a_product_of_one_row_becomes_a_sum_of_the_same_value(run, kind):
    model = row_product(kind=kind)
    before = copy_of(model)
    assert len(sum_single_rows(model)) == 1
    onnx.checker.check_model(model, full_check=True)
    assert "MatMul" not in operators(model)
    random, dtype = np.random.default_rng(0), {"float": "f4", "float16": "f2"}[kind]
    a, b = random.standard_normal((3, 1, 1, 8)), random.standard_normal((3, 2, 8, 5))
    feeds = {"a": a.astype(dtype), "b": b.astype(dtype)}
    (found,) = run(model, feeds)
    expected = np.matmul(feeds["a"].astype("f8"), feeds["b"].astype("f8"))
    # one rounding to the type, and eight float32 additions
    np.testing.assert_allclose(found, expected, rtol=1e-3 if dtype == "f2" else 1e-6, atol=2e-6)
    assert found.dtype == run(before, feeds)[0].dtype


@pytest.mark.parametrize("miss", [{"rows": 2}, {"constant": True}], ids=str)
def test_other_products_are_left_alone(miss):
    model = row_product(kind="float", **miss)
    before = model.SerializeToString()
    assert sum_single_rows(model) == []
    assert model.SerializeToString() == before
