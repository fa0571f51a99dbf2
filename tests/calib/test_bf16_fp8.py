"""BF16 and FP8 of the same recipe: numbers, types, what refuses them, and that TensorRT-RTX builds.

ONNX Runtime has neither as layers. FP8's Q and DQ it computes one by one, which is FP8 to the last
rounding; BF16 is checked by its constants, against ml_dtypes, and by the same graph in FP32.
"""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from maskrt.calib import Recipe, Style, make_recipe, place, render
from maskrt.core import Precision, Target, UnsupportedTargetError, UsageError
from maskrt.runtime.build import build_engine

from .graphs import GraphBuilder, calibrated, pictures, run, snr_db, stem

BF16, FP8 = Precision.BF16, Precision.FP8


@pytest.fixture(scope="module")
def recipe(model: onnx.ModelProto) -> Recipe:
    return make_recipe(model, FP8, calibrated(model), method="minmax")


def _run_as_written(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"images": images})


def _widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a BF16 graph with FP32 in place of BF16, its constants as they are."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for node in wide.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            bits = np.frombuffer(tensor.raw_data, "<u2").astype(np.uint32) << 16
            value = bits.view(np.float32).reshape(tensor.dims)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    del wide.graph.value_info[:]
    return wide


def test_fp8_is_close_and_every_layer_that_takes_int8_takes_it(
    model: onnx.ModelProto, recipe: Recipe
) -> None:
    rendered = render(model, recipe, Style.TENSORRT)
    images = pictures(1, seed=99)
    for expected, found in zip(run(model, images), _run_as_written(rendered, images), strict=True):
        # A rounding to 4 bits leaves some 31 dB, and a result has about a dozen behind it.
        assert snr_db(expected, found) > 20
    as_int8 = recipe.with_precision(Precision.INT8)
    same = {n for n, choice in recipe.layers.items() if choice.precision is FP8}
    assert same == {n for n, c in as_int8.layers.items() if c.precision is Precision.INT8}
    assert "fewer than the 16" in recipe.layers["first"].reason
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_one_fp8_layer_is_that_of_numpy() -> None:
    g = GraphBuilder(4)
    data = stem(g)
    end = g.op("Conv", data, g.weight(16, 16, 1, 1), g.bias(16), name="one")
    model = g.model([data, end])
    recipe = make_recipe(model, FP8, calibrated(model), method="minmax")
    images = pictures(1, seed=3)
    x, _ = run(model, images)
    weight, bias = (g.constants[name] for name in (g.nodes[-1].input[1], g.nodes[-1].input[2]))

    def on_grid(value: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
        steps = np.clip(value / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn)
        return steps.astype(np.float32) * scale

    coarse = on_grid(x, np.float32(recipe.tensors[data].maximum / 448))
    rounded = on_grid(weight, np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 448)
    expected = np.einsum("mc,nchw->nmhw", rounded[:, :, 0, 0], coarse) + bias[:, None, None]
    (_, found) = _run_as_written(render(model, recipe, Style.TENSORRT), images)
    # a value on the border of two steps may fall on either side
    assert snr_db(expected, found) > 50


def test_bf16_rounds_weights_as_ml_dtypes_and_leaves_fp32_where_it_must(
    model: onnx.ModelProto,
) -> None:
    recipe = make_recipe(model, BF16)
    assert {choice.precision for choice in recipe.layers.values()} == {BF16}
    rendered = render(model, recipe, Style.TENSORRT)
    constants = {tensor.name: tensor for tensor in rendered.graph.initializer}
    originals = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    compared = 0
    for layer in place(model).layers:
        if layer.op_type != "ConvTranspose":
            stored = constants[f"{layer.weight}_bf16"]
            expected = originals[layer.weight].astype(ml_dtypes.bfloat16).tobytes()
            assert (stored.data_type, stored.raw_data) == (TensorProto.BFLOAT16, expected)
            compared += 1
    assert compared > 10
    images = pictures(1, seed=99)
    for expected, found in zip(run(model, images), run(_widened(rendered), images), strict=True):
        assert snr_db(expected, found) > 40
    floats = [node for node in rendered.graph.node if node.op_type in ("Softmax", "Sigmoid")]
    halves = {n.output[0] for n in rendered.graph.node if n.output[0].endswith("_bf16")}
    assert halves
    assert not any(name in halves for node in floats for name in (*node.input, *node.output))


def test_bf16_has_the_range_that_fp16_lacks() -> None:
    g = GraphBuilder()
    wide = g.op("Conv", stem(g), g.constant(np.full((16, 16, 3, 3), 1e4, np.float32)), name="wide")
    model = g.model([g.conv(wide, 16, 16)])
    statistics = calibrated(model)
    assert make_recipe(model, Precision.FP16, statistics).layers["wide"].precision.value == "fp32"
    assert make_recipe(model, BF16, statistics).layers["wide"].precision is BF16


def test_a_deconvolution_that_overlaps_stays_fp32() -> None:
    g = GraphBuilder()
    weight = g.constant(g.random.normal(0, 0.1, (16, 16, 3, 3)).astype(np.float32))
    up = g.op("ConvTranspose", g.relu(g.conv(stem(g), 16, 16)), weight, strides=[2, 2], name="up")
    model = g.model([g.conv(up, 16, 16)])
    statistics = calibrated(model)
    for precision in (BF16, FP8):
        recipe = make_recipe(model, precision, statistics)
        assert recipe.layers["up"].precision is Precision.FP32
        assert recipe.layers["up"].reason == f"TensorRT has no {precision.name} deconvolution"
        assert Recipe.from_json(recipe.to_json()) == recipe


def test_who_cannot_says_so(model: onnx.ModelProto, recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="an FP8 recipe needs calibration pictures"):
        make_recipe(model, FP8)
    with pytest.raises(UsageError, match="rest is fp8"):
        recipe.with_precision(Precision.INT8, rest=FP8)
    for asked in (recipe, recipe.with_precision(BF16)):
        with pytest.raises(UnsupportedTargetError, match="ONNX Runtime has no"):
            render(model, asked, Style.ORT)


@pytest.mark.parametrize(
    ("target", "bf16", "fp8"),
    [
        ("cpu", "ONNX Runtime has no BF16 layers", "ONNX Runtime has no FP8 layers"),
        ("xavier", r"SM 7\.2, and BF16 needs SM 8\.0", r"SM 7\.2, and FP8 needs SM 8\.9"),
        ("orin-nx", "", r"SM 8\.7, and FP8 needs SM 8\.9"),
        ("thor", "", ""),
        ("rtx", "", r"SM 8\.0, and FP8 needs SM 8\.9"),
        ("rtx-75", r"SM 7\.5, and BF16 needs SM 8\.0", r"SM 7\.5"),
        ("rtx-86", "", r"SM 8\.6"),
        ("rtx-89", "", ""),
        ("rtx-120", "", ""),
        ("gpu", "", ""),
    ],
)
def test_each_target_has_what_its_gpus_have(target: str, bf16: str, fp8: str) -> None:
    for precision, reason in ((BF16, bf16), (FP8, fp8)):
        if reason:
            with pytest.raises(UnsupportedTargetError, match=reason):
                Target.parse(target).check_computes(precision)
        else:
            Target.parse(target).check_computes(precision)
    for precision in (Precision.FP32, Precision.FP16, Precision.INT8, Precision.MIXED):
        Target.parse(target).check_computes(precision)


@pytest.mark.rtx
@pytest.mark.parametrize("precision", [BF16, FP8])
def test_tensorrt_rtx_builds_it_and_its_layers_come_back(
    model: onnx.ModelProto, recipe: Recipe, precision: Precision
) -> None:
    asked = recipe.with_precision(precision)
    rendered = render(model, asked, Style.TENSORRT)
    info = build_engine(rendered, Target.parse("rtx-89"), precision).info
    wanted = [choice.precision for choice in asked.layers.values()].count(precision)
    assert info["layers"][precision.value] >= wanted
    assert info["layers"]["unknown"] == 0
    assert set(info["wider"]) <= {n for n, c in asked.layers.items() if c.precision.name == "FP32"}
    with pytest.raises(UnsupportedTargetError, match="cannot be had on target rtx-75"):
        build_engine(rendered, Target.parse("rtx-75"), precision)
