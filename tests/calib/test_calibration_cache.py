"""The calibration cache, read by a parser of its own, and which types a weak builder is told."""

import struct

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from maskrt.calib import (
    accelerated,
    calibration_cache,
    collect_statistics,
    implicit_scales,
    layer_types,
    make_recipe,
)
from maskrt.core import InputError, Precision

from .graphs import GraphBuilder, int8_recipe, stem

STAMPS = [((8, 5, 2), 8502), ((8, 6, 2), 8602), ((10, 3, 0), 100300), ((10, 13, 3), 101303)]


def _read(text: str) -> tuple[int, dict[str, float]]:
    """Parse a cache as published scripts do, with `struct` on zero-filled hexadecimal digits."""
    first, *lines = text.splitlines()
    left, stamp, kind = first.split("-")
    assert (left, kind) == ("TRT", "EntropyCalibration2")
    found = {}
    for line in lines:
        name, digits = line.rsplit(": ", 1)
        assert digits == digits.lower().lstrip("0")
        (found[name],) = struct.unpack("!f", bytes.fromhex(digits.zfill(8)))
    return int(stamp), found


def test_the_known_example() -> None:
    text = "TRT-8502-EntropyCalibration2\nx: 3c8954be\n"  # amax 2.129, as it was printed
    stamp, found = _read(text)
    assert (stamp, round(found["x"] * 127, 3)) == (8502, 2.129)
    assert calibration_cache(found, (8, 5, 2)) == text


@pytest.mark.parametrize(("version", "stamp"), STAMPS)
def test_the_stamp_of_a_version(version: tuple[int, int, int], stamp: int) -> None:
    assert _read(calibration_cache({}, version)) == (stamp, {})


@given(
    st.dictionaries(
        st.text("ab/.:_1", min_size=1), st.floats(2.0**-140, 2.0**100, width=32), max_size=5
    )
)
def test_scales_come_back_to_the_bit(scales: dict[str, float]) -> None:
    stamp, found = _read(calibration_cache(scales, (8, 5, 2)))
    assert stamp == 8502
    assert found == scales
    assert list(found) == list(scales)


@pytest.mark.parametrize(("name", "scale"), [("x", 0.0), ("x", -1.0), ("x", np.nan), ("a\nb", 1.0)])
def test_what_no_cache_can_hold(name: str, scale: float) -> None:
    with pytest.raises(InputError, match="cannot stand in a calibration cache"):
        calibration_cache({name: scale}, (8, 5, 2))


def _graph() -> onnx.ModelProto:
    """stem (3 channels) → Relu → a → Relu → MaxPool → b → + skip → Relu → upsample → head → exp."""
    random, weights, nodes = np.random.default_rng(0), [], []

    def op(kind: str, inputs: list[str], output: str, **attributes: object) -> None:
        nodes.append(helper.make_node(kind, inputs, [output], f"n.{output}", **attributes))

    def conv(data: str, output: str, channels: int) -> None:
        value = random.standard_normal((16, channels, 1, 1)).astype(np.float32)
        weights.append(numpy_helper.from_array(value, f"{output}.w"))
        op("Conv", [data, f"{output}.w"], output)

    weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "sizes"))
    op("Cast", ["x"], "float", to=TensorProto.FLOAT)
    conv("float", "stem", 3)
    op("Relu", ["stem"], "stem.r")
    conv("stem.r", "a", 16)
    op("Relu", ["a"], "a.r")
    op("MaxPool", ["a.r"], "pool", kernel_shape=[2, 2], strides=[2, 2])
    conv("pool", "b", 16)
    op("Add", ["b", "pool"], "sum")
    op("Relu", ["sum"], "sum.r")
    op("Resize", ["sum.r", "", "sizes"], "up", mode="nearest")
    conv("up", "head", 16)
    op("Exp", ["head"], "y")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.UINT8, [1, 3, 8, 8])],
        [info("y", TensorProto.FLOAT, [1, 16, 8, 8])], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def _recipe(precision: Precision):
    pytest.importorskip("onnxruntime")
    model = _graph()
    batches = [np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8), np.uint8)]
    statistics = collect_statistics(model, batches) if precision is Precision.INT8 else None
    return model, make_recipe(model, precision, statistics)


def test_every_tensor_around_an_int8_layer_has_a_scale() -> None:
    model, recipe = _recipe(Precision.INT8)
    scales = implicit_scales(model, recipe)
    around = {"stem.r", "a", "a.r", "pool", "b", "sum", "sum.r", "up", "head"}
    assert around <= set(scales)
    assert scales["a"] == scales["a.r"] == scales["pool"]  # moved, or cut off at 0 after
    assert scales["sum"] == scales["sum.r"] == scales["up"]
    assert len({scales[name] for name in ("stem.r", "a.r", "sum.r", "head")}) == 4
    for name, known in recipe.tensors.items():
        assert scales[name] == known.scales[recipe.method]
    order = [name for node in model.graph.node for name in node.output]
    assert [n for n in order if n in scales] == [n for n in scales if n in order]


def test_before_a_clip_is_the_scale_after_it() -> None:
    """Else TensorRT 8 finds none for the result of the convolution, and cannot have it in INT8."""
    g = GraphBuilder(1)
    made = g.conv(stem(g), 16, 16)
    cut = g.op("Clip", made, g.constant(np.float32(0)), g.constant(np.float32(6)))
    model = g.model([g.conv(cut, 16, 16)])
    scales = implicit_scales(model, int8_recipe(model))
    assert scales[made] == scales[cut]


def test_what_fp16_cannot_hold_is_not_left_to_the_builder() -> None:
    g = GraphBuilder(1)
    flat = g.op("Flatten", g.op("GlobalAveragePool", g.relu(g.conv(stem(g), 16, 16))))
    weight = g.constant(g.random.normal(0, 5e5, (16, 16)).astype(np.float32) // 10)
    huge = g.op("Gemm", flat, weight, name="huge")
    cut = g.relu(huge)
    weight = g.constant(g.random.normal(0, 1e-5, (16, 16)).astype(np.float32))
    model = g.model([g.op("Gemm", cut, weight, name="last")])
    recipe = int8_recipe(model)
    assert recipe.layers["huge"].precision is Precision.INT8
    assert Precision.FP16 in recipe.layers["huge"].refuses
    layers, free = layer_types(model, recipe)
    assert huge not in layers  # its INT8 is FP16 in TensorRT 8
    assert accelerated(model, recipe).leaves["huge"] == "a DLA has no Gemm"
    assert cut not in free


def test_a_graph_without_int8_has_no_scales() -> None:
    assert implicit_scales(*_recipe(Precision.FP16)) == {}


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP16])
def test_layers_and_what_lies_between_them(precision: Precision) -> None:
    layers, free = layer_types(*_recipe(precision))
    int8 = dict.fromkeys(("a", "b", "head"), precision)
    assert layers == (int8 if precision is Precision.INT8 else {"stem": precision, **int8})
    assert {"a.r", "pool", "sum", "sum.r", "up"} <= free
    assert "y" not in free
    assert ("stem.r" in free) is (precision is Precision.FP16)
    assert not free & set(layers)


def test_an_fp32_recipe_constrains_nothing() -> None:
    assert layer_types(*_recipe(Precision.FP32)) == ({}, frozenset())
