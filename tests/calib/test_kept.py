"""Layers that a user keeps wide: whatever is asked for, for how long, and what it is told."""

from dataclasses import replace

import onnx
import pytest

from maskrt.calib import (
    Recipe,
    Style,
    keep_layers,
    keep_like,
    parse_kept,
    place,
    recipe_for,
    render,
    with_kept_outputs,
)
from maskrt.calib.recipe import KEPT_FORMAT_VERSION
from maskrt.calib.search import Score, search
from maskrt.core import Precision, Target, UsageError
from maskrt.runtime.build import build_engine

from .graphs import GraphBuilder, int8_recipe, stem

FP32, FP16, INT8, MIXED = Precision.FP32, Precision.FP16, Precision.INT8, Precision.MIXED
CPU, RTX = Target.parse("cpu"), Target.parse("rtx")


def _precisions(recipe: Recipe, *names: str) -> list[Precision]:
    return [recipe.layers[name].precision for name in names]


def _two(recipe: Recipe) -> tuple[str, str]:
    first, second = recipe.narrow_layers()[:2]
    return first, second


def test_a_kept_layer_is_as_wide_in_every_recipe_that_asks_for_narrower(recipe: Recipe) -> None:
    a, b = _two(recipe)
    kept = keep_layers(recipe, {a: FP16, b: FP32})
    assert _precisions(kept, a, b) == [FP16, FP32]
    assert kept.layers[a].reason == "kept at fp16"
    others = {n: c for n, c in kept.layers.items() if n not in (a, b)}
    assert others == {n: c for n, c in recipe.layers.items() if n not in (a, b)}
    assert _precisions(kept.with_precision(FP16), a, b) == [FP16, FP32]
    assert _precisions(kept.with_precision(FP32), a, b) == [FP32, FP32]
    assert _precisions(kept.with_precision(FP32).with_precision(MIXED), a, b) == [FP16, FP32]


def test_patterns_and_the_later_of_two(recipe: Recipe) -> None:
    names = [name for name in recipe.layers if name.startswith("Conv_")]
    a = names[0]
    kept = keep_layers(recipe, {"Conv_*": FP16, a: FP32})
    assert set(_precisions(kept, *names[1:])) == {FP16}
    assert _precisions(kept, a) == [FP32]
    assert "Gemm_0" not in names
    assert {n for n, c in kept.layers.items() if c.kept} == set(names)


def test_int8_takes_it_back(recipe: Recipe) -> None:
    assert keep_layers(keep_layers(recipe, {"*": FP16}), {"*": INT8}) == recipe


def test_what_refuses_the_precision_is_fp32(recipe: Recipe) -> None:
    a, _ = _two(recipe)
    choice = replace(recipe.layers[a], refuses={FP16: "a weight is larger than 65504"})
    kept = keep_layers(replace(recipe, layers={**recipe.layers, a: choice}), {a: FP16})
    assert kept.layers[a].precision is FP32
    assert kept.layers[a].reason == "a weight is larger than 65504"


def test_it_is_data_that_older_programs_refuse(recipe: Recipe) -> None:
    a, _ = _two(recipe)
    kept = keep_layers(recipe, {a: FP16})
    data = kept.to_json()
    assert data["format_version"] == KEPT_FORMAT_VERSION > recipe.to_json()["format_version"]
    assert data["layers"][a]["kept"] == "fp16"
    assert Recipe.from_json(data) == kept
    assert not any("kept" in layer for layer in recipe.to_json()["layers"].values())


def test_it_outlives_equalisation_and_its_absence(recipe: Recipe) -> None:
    a, _ = _two(recipe)
    kept = keep_layers(recipe, {a: FP32})
    assert keep_like(recipe, kept) == kept
    equalised = replace(
        kept, original=recipe.facts, factors={next(iter(recipe.tensors)): (1.0, 2.0)}
    )
    assert _precisions(equalised.with_precision(FP16), a) == [FP32]
    assert _precisions(equalised.with_precision(INT8), a) == [FP32]


def test_the_search_leaves_it_alone(recipe: Recipe) -> None:
    a, b = _two(recipe)
    kept = keep_layers(recipe.with_precision(MIXED), {a: FP32})

    def score(tried: Recipe) -> Score:
        return Score(1.0 if b in tried.narrow_layers() else 0.0, len(tried.narrow_layers()))

    outcome = search(kept, 0.5, score, lambda best: [(b,), *((n,) for n in best.narrow_layers())])
    assert len(outcome.trials) > 2
    assert {trial.recipe.layers[a].precision for trial in outcome.trials} == {FP32}


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"Conv_9x": "fp16"}, r"no layer is named 'Conv_9x': did you mean Conv_"),
        ({"qqq": "fp16"}, r"no layer is named 'qqq': maskrt recipe lists a bundle's layers\."),
        ({"*": "bf16"}, r"layers like '\*' cannot be kept at bf16: keep them at fp16 or fp32"),
        ({"*": "fp17"}, "precision 'fp17' is not one of"),
        ({"first": "int8"}, r"layer first cannot be int8 \(3 input channels, fewer"),
    ],
)
def test_what_cannot_be_kept_is_one_sentence(
    recipe: Recipe, choices: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        keep_layers(recipe, parse_kept(choices))


def test_outputs_are_the_last_layers_on_each_way(model: onnx.ModelProto, recipe: Recipe) -> None:
    """The level that is put out, RPN logits of both levels, box head, and masks: their product
    is one of picked weights, and no layer.
    """
    kept = with_kept_outputs(model, recipe)
    found = {name for name, choice in kept.layers.items() if choice.kept is FP32}
    layers = {layer.name: layer for layer in place(model).layers}
    shared = [name for name, layer in layers.items() if "Conv" in layer.op_type]
    outputs = {value.name for value in model.graph.output}
    logits = {name for name in shared if layers[name].output in outputs}
    assert logits <= found
    assert {layers[name].op_type for name in found} == {"Conv", "ConvTranspose", "Gemm"}
    assert len(found) == 5


@pytest.mark.rtx
def test_engines_hold_to_it() -> None:
    g = GraphBuilder()
    data = g.relu(g.conv(stem(g), 16, 32, name="a"))
    data = g.relu(g.conv(data, 32, 32, name="b"))
    model = g.model([g.conv(data, 32, 32, name="c")])
    kept = keep_layers(int8_recipe(model), {"a": FP16, "b": FP32})
    engine = build_engine(render(model, kept, Style.ORT), CPU, INT8)
    found = engine.info["layer_precisions"]
    assert (found["a"], found["b"], found["c"]) == ("fp32", "fp32", "int8")  # FP16 in FP32's width
    suited = recipe_for(model, kept, RTX)
    assert _precisions(suited, "a", "b") == [FP16, FP32]
    engine = build_engine(render(model, suited, Style.TENSORRT), RTX, MIXED)
    found = engine.info["layer_precisions"]
    assert (found["a"], found["b"]) == ("fp16", "fp32")
