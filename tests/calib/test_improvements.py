"""Equalisation changes nothing but ranges; bias correction takes off the mean error of NumPy."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from maskrt.calib import Recipe, Style, collect_statistics, equalised, make_recipe, place, render
from maskrt.calib.bias_correction import measure_bias
from maskrt.calib.equalisation import equalise, find_factors, find_pairs
from maskrt.core import InputError, Precision

from .graphs import GraphBuilder, calibrated, detector, int8_recipe, pictures, run, snr_db, stem

INT8 = Precision.INT8


def _batches(count: int = 4) -> list[np.ndarray]:
    return [pictures(1, seed=seed) for seed in range(count)]


def _outputs(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    for name in names:
        info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        shown.graph.output.append(info)
    return shown


def _lopsided(depthwise: bool = False) -> tuple[onnx.ModelProto, str]:
    """Return conv, ReLU, conv with channels of very different sizes between, and that tensor."""
    g = GraphBuilder(3)
    features = stem(g)
    sizes = np.logspace(-1.5, 1.5, 32, dtype=np.float32)
    weight = g.constant(g.random.normal(0, 0.1, (32, 16, 3, 3)).astype(np.float32))
    bias = g.constant((sizes * 0.1).astype(np.float32))
    g.constants[weight] *= sizes[:, None, None, None]
    middle = g.relu(g.op("Conv", features, weight, bias, pads=[1] * 4))
    if depthwise:
        reader = g.constant(g.random.normal(0, 0.3, (32, 1, 3, 3)).astype(np.float32))
        g.constants[reader] /= sizes[:, None, None, None]
        deep = g.relu(g.op("Conv", middle, reader, g.bias(32), pads=[1] * 4, group=32))
        return g.model([g.conv(deep, 32, 16)]), middle
    reader = g.constant(g.random.normal(0, 0.1, (24, 32, 3, 3)).astype(np.float32))
    g.constants[reader] /= sizes[None, :, None, None]
    return g.model([g.op("Conv", middle, reader, g.bias(24), pads=[1] * 4)]), middle


@pytest.mark.parametrize("make", [detector, lambda: _lopsided()[0], lambda: _lopsided(True)[0]])
def test_equalising_leaves_the_results(make: object) -> None:
    model = make()  # type: ignore[operator]
    factors = find_factors(model, _batches())
    assert factors
    assert any(abs(np.log2(x)) > 0.5 for found in factors.values() for x in found)
    changed = equalise(model, factors)
    assert changed != model
    images = pictures(1, seed=50)
    for expected, found in zip(run(model, images), run(changed, images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_factor_on_one_side_alone_would_be_seen() -> None:
    """So the test above can fail."""
    model, middle = _lopsided()
    (pair,) = [pair for pair in find_pairs(model) if pair.first.result == middle]
    changed = equalise(model, {middle: (2.0,) * 32})
    for tensor in changed.graph.initializer:
        if tensor.name == pair.second.weight:
            (old,) = [t for t in model.graph.initializer if t.name == tensor.name]
            tensor.CopyFrom(old)
    images = pictures(1)
    assert not np.allclose(run(model, images)[0], run(changed, images)[0], rtol=1e-2)


def test_channels_come_to_one_size_and_int8_gets_better() -> None:
    model, middle = _lopsided()
    factors = find_factors(model, _batches())
    images = pictures(1, seed=50)

    def channel_sizes(graph: onnx.ModelProto) -> np.ndarray:
        return run(_outputs(graph, [middle]), images)[0].max(axis=(0, 2, 3))

    changed = equalise(model, factors)
    spread = [np.ptp(np.log2(channel_sizes(graph))) for graph in (model, changed)]
    assert spread[1] < 0.6 * spread[0]
    plain = int8_recipe(model)
    (expected,) = run(model, images)
    (before,) = run(render(model, plain, Style.TENSORRT), images)
    recipe = make_recipe(changed, INT8, collect_statistics(changed, _batches(8)))
    recipe = replace(recipe, graph=plain.graph, factors=factors)
    (after,) = run(render(model, recipe, Style.TENSORRT), images)
    assert snr_db(expected, after) > snr_db(expected, before) + 3
    assert render(model, recipe.with_precision(Precision.FP32), Style.TENSORRT) == model


def test_pairs_have_no_branch_and_no_shared_weight() -> None:
    model = detector()
    layers = {layer.name: layer for layer in place(model).layers}
    weights = [layer.weight for layer in layers.values()]
    pairs = find_pairs(model)
    # three residual blocks and the box head; RPN, FPN and mask head branch
    assert [(p.first.op_type, p.second.op_type) for p in pairs] == [
        *[("Conv", "Conv")] * 3,
        ("Gemm", "Gemm"),
    ]
    readers = [name for node in model.graph.node for name in node.input]
    for pair in pairs:
        assert readers.count(pair.first.result) == 1
        assert weights.count(pair.first.weight) == weights.count(pair.second.weight) == 1


def _planted() -> onnx.ModelProto:
    """A layer whose weights all round down, over an input that is never negative."""
    g = GraphBuilder(5)
    features = stem(g)
    step = 1.0 / 127
    weight = np.full((16, 16, 1, 1), 10.4 * step, np.float32)  # rounds to 10 steps
    weight[:, 0] = 1.0  # the largest, so the step is 1 / 127
    end = g.op("Conv", features, g.constant(weight), g.bias(16), name="planted")
    return g.model([end])


def test_mean_errors_are_those_of_numpy_and_are_taken_off() -> None:
    model = _planted()
    recipe = make_recipe(model, INT8, collect_statistics(model, _batches()))
    (layer,) = [x for x in place(model).layers if x.name == "planted"]
    data = np.concatenate([run(_outputs(model, [layer.data]), b)[0] for b in _batches()])
    scale = recipe.scale(layer.data)
    coarse = np.clip(np.rint(data / scale), -128, 127) * scale
    weight = np.full((16, 16), 10 / 127)
    weight[:, 0] = 1.0
    exact = np.full((16, 16), 10.4 / 127)
    exact[:, 0] = 1.0
    mean = coarse.mean(axis=(0, 2, 3)) @ weight.T - data.mean(axis=(0, 2, 3)) @ exact.T
    found = measure_bias(model, recipe, _batches())
    assert list(found) == ["planted"]
    np.testing.assert_allclose(found["planted"], mean, rtol=1e-3)
    assert (mean < -0.01).all()
    corrected = replace(recipe, corrections=found)
    for style in Style:
        gaps = {}
        for name, used in (("plain", recipe), ("corrected", corrected)):
            rendered = render(model, used, style)
            results = [(run(model, b)[0], run(rendered, b)[0]) for b in _batches()]
            gaps[name] = np.abs(np.mean([q - x for x, q in results], axis=(0, 1, 3, 4)))
        assert gaps["plain"].mean() > 0.01
        assert gaps["corrected"].mean() < 0.2 * gaps["plain"].mean()


def test_each_picture_counts_once_whatever_the_batch() -> None:
    shown = np.concatenate([pictures(1, seed=seed) for seed in range(3)])
    single, pairs = detector(), detector(batch=2)
    scales = calibrated(single)
    recipe = make_recipe(single, INT8, scales)
    same = replace(recipe, graph=make_recipe(pairs, Precision.FP32).graph)
    one_by_one = measure_bias(single, recipe, (picture[None] for picture in shown))
    assert find_factors(pairs, [shown[:2], shown[2:]])
    in_pairs = measure_bias(pairs, same, [shown[:2], shown[2:]])
    assert in_pairs.keys() == one_by_one.keys()
    for name, expected in one_by_one.items():
        # another batch, other blocking of the sums: a value may round to the next step
        np.testing.assert_allclose(in_pairs[name], expected, atol=2e-4, err_msg=name)
    filled_up = measure_bias(pairs, same, [shown[:2], shown[[2, 2]]])
    gaps = [np.abs(np.subtract(filled_up[n], one_by_one[n])).max() for n in one_by_one]
    assert max(gaps) > 2e-3  # so the comparison above can fail


def test_a_correction_follows_its_layer_and_its_method() -> None:
    model = detector()
    recipe = replace(int8_recipe(model), method="minmax")
    found = measure_bias(model, recipe, _batches(2))
    shared = [x for x in place(model).layers if x.bias is not None]
    assert set(found) == {x.name for x in shared if recipe.layers[x.name].precision is INT8}
    corrected = replace(recipe, corrections=found)
    images = pictures(1, seed=9)
    assert render(model, corrected, Style.TENSORRT) != render(model, recipe, Style.TENSORRT)
    wide = corrected.widen(list(found), "to see")
    for expected, value in zip(
        run(model, images), run(render(model, wide, Style.TENSORRT), images), strict=True
    ):
        np.testing.assert_array_equal(value, expected)
    assert corrected.with_method("mse").corrections == {}
    assert corrected.with_method("minmax").corrections == found


def test_products_alone_have_no_bias_to_correct() -> None:
    g = GraphBuilder(1)
    rows = g.op("Reshape", stem(g), g.constant(np.int64([1, 256, 16])))
    model = g.model([g.op("MatMul", rows, g.weight(16, 16))])
    recipe = int8_recipe(model)
    assert recipe.narrow_layers()
    assert measure_bias(model, recipe, _batches(1)) == {}


def test_no_picture_is_an_error() -> None:
    model = detector()
    with pytest.raises(InputError, match="no picture to measure biases on"):
        measure_bias(model, int8_recipe(model), [])


def test_improvements_survive_json_and_are_not_ignored_by_older_readers() -> None:
    recipe = int8_recipe(detector())
    assert recipe.to_json()["format_version"] == 3
    improved = {"factors": {"t1": (2.0, 0.5)}, "corrections": {"Conv_1": (0.25, -1.0)}}
    better = replace(recipe, **improved, original=recipe.facts)
    assert better.to_json()["format_version"] == 4
    assert Recipe.from_json(better.to_json()) == better
    for broken in (
        {"factors": {"t1": [0.0]}},
        {"corrections": {"Conv_1": [float("nan")]}},
        {"original": {}},
        {"original": {"tensors": {"t1": {"min": 0, "max": 1, "scales": {}}}, "refuses": {}}},
        {"original": {"tensors": {}, "refuses": {"Conv_1": ["fp16"]}}},
    ):
        with pytest.raises(InputError, match=r"damaged|is not what maskrt writes"):
            Recipe.from_json({**better.to_json(), **broken})
    without = {name: value for name, value in better.to_json().items() if name != "original"}
    with pytest.raises(InputError, match=r"damaged|is not what maskrt writes"):
        Recipe.from_json(without)


def test_equalised_is_the_graph_of_the_ranges() -> None:
    model, middle = _lopsided()
    factors = find_factors(model, _batches())
    recipe = replace(make_recipe(model, INT8, calibrated(model)), factors=factors)
    images = pictures(1)
    (plain,) = run(_outputs(model, [middle]), images)
    (found,) = run(_outputs(equalised(model, recipe), [middle]), images)
    expected = plain / np.array(factors[middle], np.float32)[:, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.max())
