"""Divergence measures what it says, names the layer at fault, and groups layers by module."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from maskrt import calib
from maskrt.calib import Style, collect_statistics, make_recipe
from maskrt.checking.attribution import layer_groups
from maskrt.checking.divergence import layer_tensors, measure_divergence
from maskrt.core import Precision, Target
from maskrt.runtime.build import build_engine
from maskrt.runtime.build.marked import mark_outputs
from tests.calib.graphs import SIZE, GraphBuilder, block, stem

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    g = GraphBuilder()
    features = block(g, block(g, stem(g), 16, 32, 2), 32, 32)
    return g.model([g.conv(features, 32, 32, name="last")])


@pytest.fixture(scope="module")
def batches() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, 1, 8, 8, 3)).repeat(SIZE // 8, 2).repeat(SIZE // 8, 3)
    return list(coarse.astype(np.uint8))


@pytest.fixture(scope="module")
def recipe(model: onnx.ModelProto, batches: list[np.ndarray]) -> calib.Recipe:
    return make_recipe(model, Precision.INT8, collect_statistics(model, batches), method="minmax")


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {layer["name"]: layer for layer in found["layers"]}


def test_a_graph_does_not_diverge_from_itself(model: Any, recipe: Any, batches: Any) -> None:
    found = measure_divergence(model, model, recipe, batches)
    assert found["pictures"] == 3
    assert found["first"] is None
    assert {layer["own_snr_db"] for layer in found["layers"]} == {200.0}
    assert {layer["snr_db"] for layer in found["layers"]} == {200.0}


@pytest.mark.parametrize("style", list(Style))
def test_int8_noise_adds_up_but_each_layers_own_is_small(
    model: Any, recipe: Any, batches: Any, style: Style
) -> None:
    found = measure_divergence(model, calib.render(model, recipe, style), recipe, batches)
    assert found["first"] is None
    assert found["wide"] == []
    last = by_name(found)["last"]
    assert 20 < last["snr_db"] < last["own_snr_db"] < 60
    assert last["range_used"] == pytest.approx(1.0, abs=0.02)  # measured on calibration's pictures


def test_fp16_is_close(model: Any, recipe: Any, batches: Any) -> None:
    half = recipe.with_precision(Precision.FP16)
    for style in Style:
        found = measure_divergence(model, calib.render(model, half, style), half, batches)
        assert found["first"] is None
        assert all(x["own_snr_db"] is None or x["own_snr_db"] > 50 for x in found["layers"])


def test_snr_and_worst_channels_by_hand(model: Any, recipe: Any, batches: Any) -> None:
    """One output channel of the last layer is doubled: noise equals that channel's signal."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    layer = next(x for x in calib.place(model).layers if x.name == "last")
    for tensor in changed.graph.initializer:
        if tensor.name in (layer.weight, layer.bias):
            value = numpy_helper.to_array(tensor).copy()
            value[5] *= 2
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    found = by_name(measure_divergence(model, changed, recipe, batches))
    others = [x["own_snr_db"] for name, x in found.items() if name != "last"]
    assert set(others) == {200.0}
    assert found["last"]["worst_channels"] == [5]
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    results = np.concatenate([session.run(None, {"images": b})[0] for b in batches])
    power = np.square(results.astype(np.float64)).sum(axis=(0, 2, 3))
    expected = 10 * np.log10(power.sum() / power[5])
    assert found["last"]["own_snr_db"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("style", list(Style))
def test_a_scale_four_times_too_wide_is_named(
    model: Any, recipe: Any, batches: Any, style: Style
) -> None:
    layer = next(x for x in calib.place(model).layers if x.name == "last")
    scales = {m: 4 * s for m, s in recipe.tensors[layer.data].scales.items()}
    tensors = {**recipe.tensors, layer.data: replace(recipe.tensors[layer.data], scales=scales)}
    wide = replace(recipe, tensors=tensors)
    found = measure_divergence(model, calib.render(model, wide, style), wide, batches)
    assert found["wide"] == ["last"]
    assert by_name(found)["last"]["range_used"] == pytest.approx(0.25, abs=0.01)


def test_layers_are_grouped_by_module() -> None:
    names = ["a.x.0", "a.x.1", "a.y.0", "b.z"]
    assert layer_groups(names) == {"a.x": ["a.x.0", "a.x.1"], "a.y": ["a.y.0"], "b.z": ["b.z"]}
    many = [f"a.m{n}.conv" for n in range(9)] + ["b.head.0"]
    assert list(layer_groups(many)) == ["a", "b"]
    flat = [f"Conv_{n}" for n in range(20)]
    groups = layer_groups(flat)
    assert len(groups) == 4
    assert [name for members in groups.values() for name in members] == flat


def test_an_engine_that_hands_out_its_tensors_stands_in_for_the_graph(
    model: Any, recipe: Any, batches: Any
) -> None:
    """What adds up is the engine's; what is a layer's own stays the graph's."""
    rendered = calib.render(model, recipe, Style.TENSORRT)
    names = layer_tensors(model, rendered)
    session = onnxruntime.InferenceSession(mark_outputs(rendered, names).SerializeToString())
    bad = next(x for x in calib.place(model).layers if x.name == "last").result

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        found = dict(zip(names, session.run(names, {"images": images}), strict=True))
        return {**found, bad: np.zeros_like(found[bad])}

    plain = measure_divergence(model, rendered, recipe, batches)
    found = measure_divergence(model, rendered, recipe, batches, run=run)
    assert by_name(found)["last"]["snr_db"] == pytest.approx(0, abs=1e-6)
    for layer, before in zip(found["layers"], plain["layers"], strict=True):
        assert layer["own_snr_db"] == before["own_snr_db"]
        assert layer["name"] == "last" or layer["snr_db"] == before["snr_db"]


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP16])
def test_tensorrt_builds_an_engine_with_marked_outputs(
    model: Any, recipe: Any, precision: Precision
) -> None:
    pytest.importorskip("tensorrt_rtx")
    chosen = recipe if precision is Precision.INT8 else recipe.with_precision(precision)
    rendered = calib.render(model, chosen, Style.TENSORRT)
    names = layer_tensors(model, rendered)
    engine = build_engine(mark_outputs(rendered, names), Target.parse("rtx"), precision)
    assert len(names) > len(model.graph.output)
    assert all(name.encode() in engine.files["engine.trt"] for name in names)
    plain = build_engine(rendered, Target.parse("rtx"), precision)
    assert engine.info["layer_precisions"] == plain.info["layer_precisions"]
