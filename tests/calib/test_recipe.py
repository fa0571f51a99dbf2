"""The recipe: its JSON, its choices, and the graphs and statistics that it refuses."""

import json

import numpy as np
import onnx
import pytest

from maskrt.calib import Range, Recipe, Statistics, Style, make_recipe, place, render
from maskrt.core import InputError, Precision, UsageError

from .graphs import calibrated, detector

INT8, FP16, FP32 = Precision.INT8, Precision.FP16, Precision.FP32


@pytest.fixture(scope="module")
def statistics(model: onnx.ModelProto) -> Statistics:
    return calibrated(model)


@pytest.fixture(scope="module")
def recipe(model: onnx.ModelProto, statistics: Statistics) -> Recipe:
    return make_recipe(model, INT8, statistics)


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("rest", [FP32, FP16])
def test_json_round_trip_is_exact(recipe: Recipe, precision: Precision, rest: Precision) -> None:
    chosen = recipe.with_precision(precision, rest=rest)
    again = Recipe.from_json(json.loads(json.dumps(chosen.to_json())))
    assert again == chosen
    assert again.with_precision(INT8) == recipe


def test_scales_come_from_the_widest_range_of_a_group(
    model: onnx.ModelProto, statistics: Statistics, recipe: Recipe
) -> None:
    assert recipe.calibration == {"pictures": statistics.pictures}
    for name in place(model).tensors:
        members = [statistics.tensors[n] for n in place(model).group(name)]
        amax = max(max(-r.minimum, r.maximum) for r in members)
        assert recipe.scale(name) == pytest.approx(amax / 127, rel=1e-6)


def test_every_layer_has_a_precision_and_a_reason(recipe: Recipe) -> None:
    wide = {n: c.reason for n, c in recipe.layers.items() if c.precision is not INT8}
    assert list(wide) == ["first"]
    assert "3 input channels" in wide["first"]
    assert {c.reason for c in recipe.layers.values() if c.precision is INT8} == {"as asked"}


def test_rest_is_what_a_refusing_layer_gets(recipe: Recipe) -> None:
    mixed = recipe.with_precision(INT8, rest=FP16)
    assert mixed.layers["first"].precision is FP16
    assert "3 input channels" in mixed.layers["first"].reason
    with pytest.raises(UsageError, match="rest is int8"):
        recipe.with_precision(INT8, rest=INT8)


def test_fp16_keeps_layers_that_would_overflow_in_fp32(
    model: onnx.ModelProto, statistics: Statistics
) -> None:
    layer = place(model).layers[4]
    tensors = {**statistics.tensors, layer.data: Range(0.0, 7e4)}
    large = Statistics(statistics.graph, 1, tensors)
    choice = make_recipe(model, FP16, large).layers[layer.name]
    assert choice.precision is FP32
    assert f"{layer.data} reached 70000" in choice.reason


def test_fp16_and_fp32_need_no_statistics_and_int8_does(model: onnx.ModelProto) -> None:
    bare = make_recipe(model, FP16)
    assert {c.precision for c in bare.layers.values()} == {FP16}
    with pytest.raises(UsageError, match="calibration pictures"):
        make_recipe(model, INT8)
    with pytest.raises(UsageError, match="calibration pictures"):
        bare.with_precision(INT8)


def test_statistics_must_be_of_this_graph_and_complete(
    model: onnx.ModelProto, statistics: Statistics
) -> None:
    with pytest.raises(InputError, match="statistics are of graph"):
        make_recipe(detector(seed=5), INT8, statistics)
    name = place(model).tensors[0]
    others = {n: r for n, r in statistics.tensors.items() if n != name}
    with pytest.raises(InputError, match=f"tensor {name} was not observed"):
        make_recipe(model, INT8, Statistics(statistics.graph, 1, others))


@pytest.mark.parametrize("style", list(Style))
def test_a_recipe_for_another_graph_is_refused(recipe: Recipe, style: Style) -> None:
    other = detector()
    name = place(other).layers[2].weight
    weight = next(tensor for tensor in other.graph.initializer if tensor.name == name)
    weight.raw_data = np.zeros(tuple(weight.dims), np.float32).tobytes()  # same shapes, retrained
    with pytest.raises(InputError, match="recipe is for graph"):
        render(other, recipe, style)


def test_an_fp32_recipe_leaves_the_model_alone(model: onnx.ModelProto, recipe: Recipe) -> None:
    for style in Style:
        assert render(model, recipe.with_precision(FP32), style) is model


def test_damaged_recipes_are_refused(recipe: Recipe) -> None:
    data = recipe.to_json()
    with pytest.raises(InputError, match="format version 0"):
        Recipe.from_json({**data, "format_version": 0})
    with pytest.raises(InputError, match="lacks layers"):
        Recipe.from_json({key: value for key, value in data.items() if key != "layers"})
    name = next(iter(data["tensors"]))
    broken = {**data["tensors"][name], "scales": {"minmax": 0.0}}
    with pytest.raises(InputError, match=r"scales\.minmax is 0\.0"):
        Recipe.from_json({**data, "tensors": {**data["tensors"], name: broken}})
