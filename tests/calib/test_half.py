"""FP16 as a strongly typed graph: which nodes have it, and a Cast at every border."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from maskrt.calib import Style, make_recipe, place, render
from maskrt.core import Precision

from .graphs import (
    GraphBuilder,
    calibrated,
    initializer,
    op_types,
    pictures,
    producer,
    run,
    snr_db,
    stem,
)
from .rtx import build

FP16 = Precision.FP16
LOWEST_SNR_DB = 55.0  # eleven bits; int8 graphs have 30 dB


@pytest.fixture(scope="module")
def rendered(model: onnx.ModelProto) -> onnx.ModelProto:
    return render(model, make_recipe(model, FP16), Style.TENSORRT)


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of each tensor, inferred by ONNX from the graph's own inputs."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=True)
    values = (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def test_numbers_stay_close_and_the_model_halves(
    model: onnx.ModelProto, rendered: onnx.ModelProto
) -> None:
    onnx.checker.check_model(rendered, full_check=True)
    images = pictures(1, seed=99)
    for expected, found in zip(run(model, images), run(rendered, images), strict=True):
        assert found.dtype == np.float32
        assert snr_db(expected, found) > LOWEST_SNR_DB
    weights = sum(initializer(model, x.weight).nbytes for x in place(model).layers)
    assert model.ByteSize() - rendered.ByteSize() > 0.35 * weights


def test_layers_and_what_lies_between_compute_in_fp16(
    model: onnx.ModelProto, rendered: onnx.ModelProto
) -> None:
    types = _types(rendered)
    layers = {layer.name for layer in place(model).layers}
    between = ("Relu", "MaxPool", "Resize", "AveragePool", "Flatten", "MatMul")
    for node in rendered.graph.node:
        if node.name in layers or node.op_type in between:
            assert types[node.output[0]] == TensorProto.FLOAT16, node.name
    sums = [node for node in rendered.graph.node if node.op_type == "Add"]
    assert [types[node.output[0]] for node in sums].count(TensorProto.FLOAT16) == 4


def test_preprocessing_softmax_and_sigmoid_stay_fp32(rendered: onnx.ModelProto) -> None:
    types = _types(rendered)
    islands = [n for n in rendered.graph.node if n.op_type in ("Mul", "Softmax", "Sigmoid")]
    assert len(islands) == 3
    for node in islands:
        assert {types[name] for name in (*node.input, *node.output)} == {TensorProto.FLOAT}


def test_a_level_that_is_output_and_rpn_input_has_one_form_of_each_type(
    model: onnx.ModelProto, rendered: onnx.ModelProto
) -> None:
    level = rendered.graph.output[0].name
    assert level == model.graph.output[0].name
    back = producer(rendered, level)
    assert back.op_type == "Cast"
    inside = back.input[0]
    assert producer(rendered, inside).op_type == "Conv"
    readers = [node for node in rendered.graph.node if inside in node.input]
    assert sorted(node.op_type for node in readers) == ["AveragePool", "Cast", "Conv"]
    assert all(level not in node.input for node in rendered.graph.node)


def test_no_cast_is_undone_at_once(rendered: onnx.ModelProto) -> None:
    casts = {
        node.output[0]: node.input[0] for node in rendered.graph.node if node.op_type == "Cast"
    }
    assert not set(casts) & set(casts.values())
    assert len(set(casts.values())) == len(casts)


def test_a_missing_cast_is_noticed(rendered: onnx.ModelProto) -> None:
    """So the checks of validity above can fail."""
    broken = onnx.ModelProto()
    broken.CopyFrom(rendered)
    cast = next(n for n in broken.graph.node if n.op_type == "Cast" and n.output[0].endswith("16"))
    for node in broken.graph.node:
        for position, name in enumerate(node.input):
            if name == cast.output[0]:
                node.input[position] = cast.input[0]
    del broken.graph.value_info[:]
    with pytest.raises(onnx.shape_inference.InferenceError):
        onnx.checker.check_model(broken, full_check=True)


def test_maskrt_nodes_and_their_functions_stay_fp32() -> None:
    g = GraphBuilder()
    level = g.relu(g.conv(stem(g), 16, 16))
    pooled = g.op("Pool", level, domain="maskrt")
    end = g.conv(pooled, 16, 16)
    body = helper.make_node("Mul", ["x", "x"], ["y"])
    function = helper.make_function(
        "maskrt", "Pool", ["x"], ["y"], [body], [helper.make_opsetid("", 19)]
    )
    model = g.model([end])
    model.functions.append(function)
    recipe = make_recipe(model, Precision.INT8, calibrated(model))
    images = pictures(1)
    (expected,) = run(model, images)
    for style in Style:
        for precision, bound in ((Precision.INT8, 25.0), (FP16, LOWEST_SNR_DB)):
            rendered = render(model, recipe.with_precision(precision), style)
            assert rendered.functions[0] == function
            (node,) = [node for node in rendered.graph.node if node.domain == "maskrt"]
            assert node.input[0] == level  # which is FP32 in every form
            (found,) = run(rendered, images)
            assert snr_db(expected, found) > bound


def test_layers_that_stay_fp32_get_casts_on_both_sides() -> None:
    g = GraphBuilder()
    weight = g.constant(np.full((16, 16, 1, 1), 7e4, np.float32))
    huge = g.op("Conv", g.relu(g.conv(stem(g), 16, 16)), weight, name="huge")
    end = g.conv(huge, 16, 16, name="last")
    model = g.model([end])
    rendered = render(model, make_recipe(model, FP16), Style.TENSORRT)
    types = _types(rendered)
    assert types[producer(rendered, huge).input[0]] == TensorProto.FLOAT
    assert types[producer(rendered, huge).input[1]] == TensorProto.FLOAT
    last = next(node for node in rendered.graph.node if node.name == "last")
    assert types[last.input[0]] == TensorProto.FLOAT16


def test_box_arithmetic_after_the_last_layer_stays_fp32() -> None:
    g = GraphBuilder()
    deltas = g.conv(g.relu(g.conv(stem(g), 16, 16)), 16, 4, kernel=1)
    moved = g.op("Add", g.op("Mul", deltas, g.constant(np.float32(8))), g.constant(np.float32(3)))
    again = g.op("Reshape", g.op("Exp", moved), g.constant(np.int64([1, -1])))
    model = g.model([again])
    rendered = render(model, make_recipe(model, FP16), Style.TENSORRT)
    types = _types(rendered)
    (scaled,) = [n for n in rendered.graph.node if n.output[0] == moved]
    assert types[scaled.input[0]] == TensorProto.FLOAT
    assert op_types(rendered)[-4:] == ["Mul", "Add", "Exp", "Reshape"]


@pytest.mark.rtx
def test_tensorrt_rtx_builds_it(rendered: onnx.ModelProto) -> None:
    assert build(rendered) == []


@pytest.mark.rtx
def test_tensorrt_rtx_refuses_mixed_types(rendered: onnx.ModelProto) -> None:
    """So the test above can fail."""
    broken = onnx.ModelProto()
    broken.CopyFrom(rendered)
    for node in broken.graph.node:
        if node.op_type == "Conv":
            weight = next(t for t in broken.graph.initializer if t.name == node.input[1])
            wide = initializer(broken, weight.name).astype(np.float32)
            weight.CopyFrom(onnx.numpy_helper.from_array(wide, weight.name))
            break
    assert build(broken)
