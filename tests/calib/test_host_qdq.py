"""ONNX Runtime's form: everything fuses into integer kernels, and the numbers stay close."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from maskrt.calib import Recipe, Style, TensorScale, make_recipe, place, render
from maskrt.calib.render._deconvolution import split_deconvolutions
from maskrt.calib.render._late_shuffle import shuffle_late
from maskrt.core import Precision, Target
from maskrt.runtime.build import build_engine
from maskrt.runtime.build.float_layers import keep_float_layers
from maskrt.runtime.build.layers import find_heavy_layers

from .graphs import (
    GraphBuilder,
    block,
    calibrated,
    detector,
    float_layers,
    initializer,
    int8_recipe,
    op_types,
    optimised,
    pictures,
    producer,
    run,
    snr_db,
    stem,
)

# Eight bits at every tensor of a chain of about ten layers: 30 dB here, and 10 dB lower as soon as
# one tensor has the wrong scale.
LOWEST_SNR_DB = 28.0


def _snr(model: onnx.ModelProto, rendered: onnx.ModelProto) -> list[float]:
    images = pictures(1, seed=99)
    pairs = zip(run(model, images), run(rendered, images), strict=True)
    return [snr_db(reference, value) for reference, value in pairs]


def test_numbers_stay_close(model: onnx.ModelProto, recipe: Recipe) -> None:
    rendered = render(model, recipe, Style.ORT)
    onnx.checker.check_model(rendered, full_check=True)
    assert min(_snr(model, rendered)) > LOWEST_SNR_DB


def test_a_wrong_scale_is_noticed(model: onnx.ModelProto, recipe: Recipe) -> None:
    name = place(model).layers[4].data
    seen = recipe.tensors[name]
    wrong = TensorScale(seen.minimum, seen.maximum, {"minmax": seen.scales["minmax"] * 32})
    broken = dataclasses.replace(recipe, tensors={**recipe.tensors, name: wrong})
    assert min(_snr(model, render(model, broken, Style.ORT))) < LOWEST_SNR_DB


def test_every_int8_layer_becomes_an_integer_kernel(
    model: onnx.ModelProto, recipe: Recipe, tmp_path: Path
) -> None:
    fused = optimised(render(model, recipe, Style.ORT), tmp_path)
    assert len(float_layers(fused)) == 1  # the first one, of three channels
    kinds = op_types(fused)
    assert kinds.count("QLinearConv") == sum("Conv" in x.op_type for x in place(model).layers) - 1
    assert kinds.count("QGemm") == 2
    assert kinds.count("QLinearAdd") == len(place(model).adds)
    assert "Relu" not in kinds
    assert "ConvTranspose" not in kinds
    for node in fused.graph.node:
        if node.op_type == "Resize":
            assert producer(fused, node.input[0]).op_type.startswith("QLinear")


def test_the_form_for_tensorrt_does_not_fuse_here(
    model: onnx.ModelProto, recipe: Recipe, tmp_path: Path
) -> None:
    """So the test above can fail."""
    fused = optimised(render(model, recipe, Style.TENSORRT), tmp_path)
    assert len(float_layers(fused)) == len(place(model).layers)


def _zero_points(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the zero point of each quantised activation, by the name of its float tensor."""
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    return {node.input[0]: initializer(model, node.input[2]) for node in quantizers}


def test_activations_are_uint8_around_0_after_relu_and_around_128_else(
    model: onnx.ModelProto, recipe: Recipe
) -> None:
    found = _zero_points(render(model, recipe, Style.ORT))
    assert {point.dtype for point in found.values()} == {np.dtype(np.uint8)}
    for name, point in found.items():
        original = name.removesuffix("_float").removesuffix("_packed")
        rectified = recipe.tensors[original].minimum >= 0
        assert point == (0 if rectified else 128), name


def test_full_range_halves_the_step_of_rectified_tensors(
    model: onnx.ModelProto, recipe: Recipe
) -> None:
    name = next(x.data for x in place(model).layers if recipe.tensors[x.data].minimum >= 0)
    steps = []
    for full_range in (True, False):
        rendered = render(model, recipe, Style.ORT, full_range=full_range)
        steps.append(float(initializer(rendered, f"{name}_scale")))
    assert steps[1] == pytest.approx(recipe.scale(name), rel=1e-6)
    assert steps[0] == pytest.approx(recipe.scale(name) * 127 / 255, rel=1e-6)


def test_a_dead_channel_with_a_bias_keeps_its_bias() -> None:
    g = GraphBuilder()
    start = g.relu(g.conv(stem(g), 16, 16))
    weight = g.random.normal(0, 0.1, (16, 16, 3, 3)).astype(np.float32)
    weight[3], weight[4] = 0.0, 1e-12
    bias = np.full(16, 0.7, np.float32)
    dead = g.op("Conv", start, g.constant(weight), g.constant(bias), pads=[1, 1, 1, 1])
    model = g.model([dead])
    recipe = int8_recipe(model)
    (result,) = run(render(model, recipe, Style.ORT), pictures(1))
    step = recipe.scale(dead)  # the bias itself is exact to 2**-30; the output has this grid
    np.testing.assert_allclose(result[0, 3:5], 0.7, atol=0.51 * step)


def test_an_int8_layer_whose_result_is_the_graphs_output(tmp_path: Path) -> None:
    g = GraphBuilder()
    end = block(g, g.relu(g.conv(stem(g), 16, 16)), 16, 32, stride=2)
    model = g.model([end])
    rendered = render(model, int8_recipe(model), Style.ORT)
    assert [output.name for output in rendered.graph.output] == [end]
    assert len(float_layers(optimised(rendered, tmp_path))) == 1


def test_layers_that_stay_fp32_read_and_write_floats(
    model: onnx.ModelProto, recipe: Recipe, tmp_path: Path
) -> None:
    names = [layer.name for layer in place(model).layers]
    wide = {n: c.asked(Precision.FP32, Precision.FP32) for n, c in recipe.layers.items()}
    half = {**recipe.layers, **{name: wide[name] for name in names[::2]}}
    rendered = render(model, dataclasses.replace(recipe, layers=half), Style.ORT)
    assert min(_snr(model, rendered)) > LOWEST_SNR_DB
    # What the builder does against ONNX Runtime quantising a float layer between two INT8 ones.
    keep_float_layers(rendered, find_heavy_layers(rendered))
    left = float_layers(optimised(rendered, tmp_path))
    assert len(left) == len(names[::2])
    assert not [name for name in left if "Gemm_38" in name]  # INT8, and read by a float Gemm


def test_an_fp16_layer_beside_an_int8_layer_leaves_it_int8() -> None:
    """As the search widens one of two heads: a Cast behind the DQ of both would part them."""
    g = GraphBuilder(1)
    shared = g.relu(g.conv(stem(g), 16, 16))
    ends = [g.conv(shared, 16, 16, kernel=1, name=name) for name in ("narrow", "wide")]
    model = g.model([g.relu(ends[0]), ends[1]])
    recipe = make_recipe(model, Precision.MIXED, calibrated(model)).widen(["wide"], "a test")
    rendered = render(model, recipe, Style.ORT)
    built = build_engine(rendered, Target.parse("cpu"), Precision.MIXED)
    assert built.info["layer_precisions"]["narrow"] == "int8"
    assert min(_snr(model, rendered)) > LOWEST_SNR_DB


def _deconvolution(**attributes: object) -> tuple[onnx.ModelProto, str]:
    g = GraphBuilder()
    kernel = attributes.pop("kernel", 2)
    weight = g.random.normal(0, 0.2, (16, 8, kernel, kernel)).astype(np.float32)
    inputs = (g.relu(stem(g)), g.constant(weight), g.bias(8))
    up = g.op("ConvTranspose", *inputs, name="up", **attributes)
    return g.model([g.relu(up)]), up


@pytest.mark.parametrize("kernel", [2, 3])
def test_a_pixelwise_deconvolution_is_rewritten_exactly(kernel: int) -> None:
    model, _ = _deconvolution(kernel=kernel, strides=[kernel, kernel])
    rewritten, origin = split_deconvolutions(model, {"up"})
    assert "ConvTranspose" not in op_types(rewritten)
    assert len(origin) == 2  # before and after the ReLU
    images = pictures(1)
    (expected,), (found,) = run(model, images), run(rewritten, images)
    np.testing.assert_allclose(found, expected, atol=1e-5)  # float32 sums in another order


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel": 3, "strides": [2, 2]},
        {"kernel": 2, "strides": [2, 2], "pads": [1, 0, 0, 0]},
        {"kernel": 2, "strides": [2, 2], "output_padding": [1, 1]},
        {"kernel": 2, "strides": [2, 2], "dilations": [2, 2]},
        {"kernel": 2},
    ],
    ids=["overlap", "pads", "output padding", "dilations", "stride 1"],
)
def test_other_deconvolutions_are_left_alone(attributes: dict[str, object]) -> None:
    model, _ = _deconvolution(**attributes)
    rewritten, origin = split_deconvolutions(model, {"up"})
    assert rewritten is model
    assert not origin


def test_only_deconvolutions_that_are_to_be_int8_are_rewritten() -> None:
    model, _ = _deconvolution(strides=[2, 2])
    assert split_deconvolutions(model, set())[0] is model


def test_the_shuffle_moves_past_the_product_over_channels() -> None:
    model = split_deconvolutions(detector(), [x.name for x in place(detector()).layers])[0]
    late = shuffle_late(model)
    shuffles = [node for node in late.graph.node if node.op_type == "DepthToSpace"]
    assert producer(late, producer(late, shuffles[0].input[0]).input[0]).op_type == "MatMul"
    images = pictures(1)
    for expected, found in zip(run(model, images), run(late, images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("near_miss", ["read twice", "factor of rank 2", "CRD", "none"])
def test_near_misses_of_the_late_shuffle_are_left_alone(near_miss: str) -> None:
    g = GraphBuilder()
    mode = "CRD" if near_miss == "CRD" else "DCR"
    wide = g.op("DepthToSpace", stem(g), blocksize=2, mode=mode)
    pixels = g.op("Reshape", wide, g.constant(np.int64([0, 4, 1024])))
    factor = g.weight(3, 4) if near_miss == "factor of rank 2" else g.weight(1, 3, 4)
    outputs = [g.op("MatMul", factor, pixels)]
    outputs += [g.relu(wide)] if near_miss == "read twice" else []
    model = g.model(outputs)
    assert (shuffle_late(model) is model) == (near_miss != "none")


def test_the_original_model_is_untouched(model: onnx.ModelProto, recipe: Recipe) -> None:
    before = model.SerializeToString(deterministic=True)
    for style in Style:
        render(model, recipe, style)
        render(model, make_recipe(model, Precision.FP16, calibrated(model)), style)
    assert model.SerializeToString(deterministic=True) == before
