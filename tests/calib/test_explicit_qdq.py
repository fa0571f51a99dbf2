"""TensorRT's form: symmetric int8, one Q a tensor, skip branches only; TensorRT-RTX builds it."""

from collections import Counter

import numpy as np
import onnx
import pytest

from maskrt.calib import Recipe, Style, make_recipe, place, render
from maskrt.core import Precision, Target
from maskrt.runtime.build import build_engine

from .graphs import (
    GraphBuilder,
    calibrated,
    detector,
    initializer,
    int8_recipe,
    pictures,
    producer,
    quantises_fp16_exactly,
    run,
    snr_db,
    stem,
)
from .rtx import build

LOWEST_SNR_DB = 28.0  # as in test_host_qdq
INT8, FP16, FP32 = Precision.INT8, Precision.FP16, Precision.FP32


@pytest.fixture(scope="module")
def rendered(model: onnx.ModelProto, recipe: Recipe) -> onnx.ModelProto:
    return render(model, recipe, Style.TENSORRT)


@pytest.mark.parametrize("rest", [FP32, FP16])
def test_numbers_stay_close(model: onnx.ModelProto, recipe: Recipe, rest: Precision) -> None:
    rendered = render(model, recipe.with_precision(INT8, rest=rest), Style.TENSORRT)
    onnx.checker.check_model(rendered, full_check=True)
    if rest is FP16 and not quantises_fp16_exactly():
        pytest.skip("this ONNX Runtime rounds FP16 wrongly in QuantizeLinear")
    images = pictures(1, seed=99)
    for expected, found in zip(run(model, images), run(rendered, images), strict=True):
        assert snr_db(expected, found) > LOWEST_SNR_DB


def test_between_int8_layers_all_is_fp16(model: onnx.ModelProto, recipe: Recipe) -> None:
    rendered = render(model, recipe.with_precision(Precision.MIXED), Style.TENSORRT)
    onnx.checker.check_model(rendered, full_check=True)
    bare = onnx.ModelProto()
    bare.CopyFrom(rendered)
    del bare.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=True).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    layers = {layer.name for layer in place(model).layers}
    made = [n.output[0] for n in rendered.graph.node if n.name in layers or n.op_type == "Relu"]
    assert len(made) > len(layers)
    assert {kinds[name] for name in made} == {onnx.TensorProto.FLOAT16}


@pytest.mark.rtx
def test_a_layer_that_fp16_cannot_hold_is_int8_beside_one_that_it_can() -> None:
    """They read one Q, and each a DQ of its own type."""
    g = GraphBuilder(1)
    shared = g.relu(g.conv(stem(g), 16, 16))
    large, small = g.weight(16, 16, 1, 1), g.weight(16, 16, 1, 1)
    g.constants[large] *= np.float32(3e4)
    g.constants[small] /= np.float32(1e4)
    far = g.op("Conv", shared, large, name="far")
    near = g.conv(shared, 16, 16, name="near")
    model = g.model([g.op("Conv", g.relu(far), small), near])
    recipe = make_recipe(model, Precision.MIXED, calibrated(model))
    assert [FP16 in recipe.layers[name].refuses for name in ("far", "near")] == [True, False]
    rendered = render(model, recipe, Style.TENSORRT)
    info = build_engine(rendered, Target.parse("rtx"), Precision.MIXED).info
    assert [info["layer_precisions"][name] for name in ("far", "near")] == ["int8", "int8"]


def test_one_symmetric_quantizer_a_tensor(rendered: onnx.ModelProto) -> None:
    quantizers = [node for node in rendered.graph.node if node.op_type == "QuantizeLinear"]
    assert max(Counter(node.input[0] for node in quantizers).values()) == 1
    for node in quantizers:
        zero_point = initializer(rendered, node.input[2])
        assert zero_point.dtype == np.int8
        assert zero_point == 0
        assert initializer(rendered, node.input[1]) > 0


def test_int8_layers_read_dequantised_data_and_int8_weights(
    model: onnx.ModelProto, rendered: onnx.ModelProto
) -> None:
    names = {layer.name: layer for layer in place(model).layers}
    for node in rendered.graph.node:
        layer = names.get(node.name)
        if layer is None or layer.name == "first":
            continue
        data = producer(rendered, node.input[0])
        assert data.op_type in ("DequantizeLinear", "Resize")
        weight = producer(rendered, node.input[1])
        assert weight.op_type == "DequantizeLinear"
        assert initializer(rendered, weight.input[0]).dtype == np.int8
        scale = initializer(rendered, weight.input[1])
        assert scale.ndim == (0 if layer.op_type == "ConvTranspose" else 1)
        assert initializer(rendered, node.input[2]).dtype == np.float32  # the bias


def test_shared_weights_are_stored_once(rendered: onnx.ModelProto) -> None:
    stored = [t.name for t in rendered.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    readers = Counter(node.input[1] for node in rendered.graph.node if node.op_type == "Conv")
    assert sorted(readers.values())[-2:] == [2, 2]  # the RPN's two convolutions, on two levels
    weights = [name for name in stored if name.endswith("_int8")]
    assert len(weights) == len(set(weights)) == len(place(detector()).layers) - 1 - 2


def test_residual_sums_read_one_quantised_branch(
    model: onnx.ModelProto, rendered: onnx.ModelProto
) -> None:
    for add in place(model).adds:
        node = producer(rendered, add.output)
        kinds = [producer(rendered, name).op_type for name in node.input]
        assert kinds.count("Conv") == 1, add
        assert ("DequantizeLinear" in kinds) != ("Resize" in kinds), add


def test_the_upsampling_is_quantised_at_its_input(rendered: onnx.ModelProto) -> None:
    (resize,) = [node for node in rendered.graph.node if node.op_type == "Resize"]
    assert producer(rendered, resize.input[0]).op_type == "DequantizeLinear"
    assert initializer(rendered, resize.input[2]).dtype == np.float32


def test_what_is_not_int8_reads_the_float_tensor(rendered: onnx.ModelProto) -> None:
    (pool,) = [node for node in rendered.graph.node if node.op_type == "AveragePool"]
    assert producer(rendered, pool.input[0]).op_type == "Conv"
    assert rendered.graph.output[0].name == pool.input[0]


NEAREST = {
    "mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"
}  # fmt: skip


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_a_decoder_quantises_behind_its_upsampling(activation: str) -> None:
    """TensorRT-RTX computes a convolution in float whose Resize is between it and its Q/DQ."""
    g = GraphBuilder()
    start = g.op(activation, g.conv(stem(g), 16, 16))
    scales = g.constant(np.float32([1, 1, 2, 2]))
    wide = g.op("Resize", start, "", scales, **NEAREST)
    end = g.conv(wide, 16, 16)
    model = g.model([end])
    rendered = render(model, int8_recipe(model), Style.TENSORRT)
    dequantised = producer(rendered, producer(rendered, end).input[0])
    assert dequantised.op_type == "DequantizeLinear"
    assert list(producer(rendered, dequantised.input[0]).input)[:1] == [wide]


def test_a_skip_branch_has_the_scale_of_what_its_upsampling_makes() -> None:
    """No layer reads what the Resize reads, so that was not calibrated."""
    g = GraphBuilder()
    data = g.relu(g.conv(stem(g), 16, 16))
    small = g.op("MaxPool", g.relu(g.conv(data, 16, 16)), kernel_shape=[2, 2], strides=[2, 2])
    skip = g.op("Resize", small, "", g.constant(np.float32([1, 1, 2, 2])), **NEAREST)
    end = g.op("Add", g.conv(data, 16, 16), skip)
    model = g.model([end])
    recipe = int8_recipe(model)
    assert small not in recipe.tensors
    rendered = render(model, recipe, Style.TENSORRT)
    resize = producer(rendered, skip)
    dequantised = producer(rendered, resize.input[0])
    assert dequantised.op_type == "DequantizeLinear"
    assert initializer(rendered, dequantised.input[1]) == np.float32(recipe.scale(skip))


def test_an_upsampling_that_others_read_too_keeps_making_floats() -> None:
    g = GraphBuilder()
    data = g.relu(g.conv(stem(g), 16, 16))
    small = g.conv(data, 16, 16, strides=[2, 2])
    skip = g.op("Resize", small, "", g.constant(np.float32([1, 1, 2, 2])), **NEAREST)
    end = g.op("Add", g.conv(data, 16, 16), skip)
    model = g.model([end, skip])
    rendered = render(model, int8_recipe(model), Style.TENSORRT)
    assert producer(rendered, skip).input[0] == small
    images = pictures(1, seed=99)
    assert snr_db(run(model, images)[1], run(rendered, images)[1]) > LOWEST_SNR_DB


def test_a_bilinear_resize_computes_so_its_output_is_quantised() -> None:
    g = GraphBuilder()
    start = g.op("MaxPool", g.relu(g.conv(stem(g), 16, 16)), kernel_shape=[1, 1])
    scales = g.constant(np.float32([1, 1, 2, 2]))
    end = g.conv(g.op("Resize", start, "", scales, mode="linear"), 16, 16)
    model = g.model([end])
    rendered = render(model, int8_recipe(model), Style.TENSORRT)
    dequantised = producer(rendered, producer(rendered, end).input[0])
    assert dequantised.op_type == "DequantizeLinear"
    resize = producer(rendered, producer(rendered, dequantised.input[0]).input[0])
    assert resize.op_type == "Resize"
    assert producer(rendered, resize.input[0]).op_type == "MaxPool"


@pytest.mark.rtx
@pytest.mark.parametrize("rest", [FP32, FP16])
def test_tensorrt_rtx_builds_it(model: onnx.ModelProto, recipe: Recipe, rest: Precision) -> None:
    assert build(render(model, recipe.with_precision(INT8, rest=rest), Style.TENSORRT)) == []


@pytest.mark.rtx
def test_tensorrt_rtx_refuses_the_form_for_onnx_runtime(
    model: onnx.ModelProto, recipe: Recipe
) -> None:
    """So the test above can fail: TensorRT takes no uint8 zero point other than 0."""
    assert build(render(model, recipe, Style.ORT))
