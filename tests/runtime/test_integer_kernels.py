"""INT8 on a CPU is integer arithmetic: exact in every kernel, in the form that is exact here."""

import importlib
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from maskrt.calib import Recipe, Style, collect_statistics, make_recipe, render
from maskrt.core import Precision, Target, UnsupportedTargetError
from maskrt.runtime import integer_kernels
from maskrt.runtime.build import build_engine
from maskrt.runtime.build.host_graph import host_graph
from maskrt.runtime.integer_kernels import (
    PAIRED,
    WEIGHT_FORMS,
    exact_forms,
    inexact_kernels,
    measured_gain,
    stored_form,
    with_suited_weights,
)

from ..calib.graphs import GraphBuilder, detector, int8_recipe, pictures, stem
from ..calib.integers import expected_levels, layers_between_levels

weights = importlib.import_module("maskrt.calib.render._weights")
ort = pytest.importorskip("onnxruntime")
CHANNELS = 32


def _run(engine: bytes, outputs: list[str], images: np.ndarray) -> list[np.ndarray]:
    """Run an engine with more outputs."""
    model = onnx.load_model_from_string(engine)
    for name in outputs:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    session = ort.InferenceSession(model.SerializeToString(), options, providers=providers)
    return session.run(outputs, {"images": images})


def _wrong(engine: bytes, images: np.ndarray) -> dict[str, int]:
    """Return, for each layer between levels, how many of its results are not those of integers."""
    model = onnx.load_model_from_string(engine)
    layers = list(layers_between_levels(model))
    names = sorted({name for layer in layers for name in (layer.source, layer.result)})
    levels = dict(zip(names, _run(engine, names, images), strict=True))
    return {
        layer.node.name: int(
            (expected_levels(layer, levels[layer.source]) != levels[layer.result]).sum()
        )
        for layer in layers
    }


def _hostile(form: str) -> tuple[onnx.ModelProto, Recipe]:
    """A layer whose data is 255 everywhere on white pictures, with all weights 127."""
    g = GraphBuilder()
    pixels = g.op("Transpose", g.op("Cast", "images", to=1), perm=[0, 3, 1, 2])
    scaled = g.op("Mul", pixels, g.constant(np.float32(1 / 255)))
    ones = np.full((CHANNELS, 3, 4, 4), 1 / 48, np.float32)
    data = g.relu(g.op("Conv", scaled, g.constant(ones), strides=[4, 4], name="first"))
    kernel, groups = (3 if "3x3" in form else 1), {"grouped": 2, "depthwise": CHANNELS}
    group = next((n for word, n in groups.items() if word in form), 1)
    bias = g.constant(np.zeros(CHANNELS, np.float32))
    if form.startswith("conv"):
        weight = g.constant(np.ones((CHANNELS, CHANNELS // group, kernel, kernel), np.float32))
        end = g.op("Conv", data, weight, bias, group=group, name="layer")
    elif form == "deconvolution":
        weight = g.constant(np.ones((CHANNELS, CHANNELS, 2, 2), np.float32))
        end = g.op("ConvTranspose", data, weight, bias, strides=[2, 2], name="layer")
    else:
        flat = g.op("Flatten", data)
        weight = g.constant(np.ones((CHANNELS * 256, CHANNELS), np.float32))
        read = [flat, weight] if form == "matmul" else [flat, weight, bias]
        end = g.op("MatMul" if form == "matmul" else "Gemm", *read, name="layer")
    model = g.model([g.relu(end)])
    return model, _recipe_of_white(model)


def _recipe_of_white(model: onnx.ModelProto) -> Recipe:
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    white = [np.full(shape, 255, np.uint8), np.zeros(shape, np.uint8)]
    return make_recipe(model, Precision.INT8, collect_statistics(model, iter(white)))


FORMS = [
    "conv 3x3", "conv 1x1", "conv 3x3 grouped", "conv 1x1 grouped", "conv 3x3 depthwise",
    "deconvolution", "gemm", "matmul",
]  # fmt: skip


@pytest.mark.parametrize("stored", ["as built", "on 127 levels"])
@pytest.mark.parametrize("form", FORMS)
def test_the_largest_products_do_not_saturate(
    form: str, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines hold pairs that fit into 16 bits; one of an earlier version has 127 everywhere."""
    if stored == "on 127 levels":
        monkeypatch.setattr(weights, "paired_levels", _unpaired)
    model, recipe = _hostile(form)
    engine = with_suited_weights(host_graph(render(model, recipe, Style.ORT)))
    images = np.full((1, 64, 64, 3), 255, np.uint8)
    wrong = _wrong(engine, images)
    assert wrong == dict.fromkeys(wrong, 0)
    assert len(wrong) == 1
    (layer,) = layers_between_levels(onnx.load_model_from_string(engine))
    fits = stored == "as built" and "depthwise" not in form
    assert set(layer.weight.ravel().tolist()) == {64 if fits else 127}
    (data, result) = _run(engine, [layer.source, layer.result], images)
    assert data.min() == 255
    assert result.min() == 255  # saturated products give about half


def _unpaired(rows: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    levels = np.rint(rows / scale[:, None]).astype(np.int8)
    return levels, scale


@pytest.mark.skipif("int8" in exact_forms(), reason="int8 weights are exact on this CPU")
@pytest.mark.parametrize("form", [f for f in FORMS if "depthwise" not in f])
def test_int8_weights_on_127_levels_would_saturate_here(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above can fail."""
    monkeypatch.setattr(weights, "paired_levels", _unpaired)
    model, recipe = _hostile(form)
    monkeypatch.setattr(integer_kernels, "exact_forms", lambda: ("int8",))
    engine = with_suited_weights(host_graph(render(model, recipe, Style.ORT)))
    assert stored_form(engine) == "int8"
    assert sum(_wrong(engine, np.full((1, 64, 64, 3), 255, np.uint8)).values()) > 0


def test_what_does_not_fit_in_pairs_is_uint8_where_int8_saturates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(integer_kernels, "exact_forms", lambda: (PAIRED, "uint8"))
    model, recipe = _hostile("conv 3x3")
    assert stored_form(with_suited_weights(host_graph(render(model, recipe, Style.ORT)))) == "int8"
    monkeypatch.setattr(weights, "paired_levels", _unpaired)
    built = host_graph(render(model, recipe, Style.ORT))
    assert stored_form(with_suited_weights(built)) == "uint8"


def test_every_layer_of_a_detector_is_exact() -> None:
    model = detector()
    engine = with_suited_weights(host_graph(render(model, int8_recipe(model), Style.ORT)))
    for seed in (3, 7):
        wrong = _wrong(engine, pictures(1, seed))
        assert len(wrong) >= 15
        assert wrong == dict.fromkeys(wrong, 0)


@pytest.mark.slow
@pytest.mark.torch
def test_every_layer_of_the_demo_engine_is_exact(tmp_path: Any) -> None:
    import maskrt
    from maskrt.demo import weights_path
    from maskrt.demo.run import MODEL
    from maskrt.demo.scenes import scene

    shown = [scene(i, split="train", size=(320, 320)).image for i in range(4)]
    bundle = maskrt.compile(
        MODEL, tmp_path / "demo.maskrt", weights=weights_path(), input_size=(320, 320),
        calibration=shown, precision="int8", targets=["cpu"],
    )  # fmt: skip
    engine = with_suited_weights(bundle.read("engines/cpu/engine.onnx"))
    for index in range(2):
        picture = scene(index, split="val", size=(320, 320)).image
        wrong = _wrong(engine, picture[None])
        assert len(wrong) >= 45
        assert wrong == dict.fromkeys(wrong, 0)


def _engine() -> bytes:
    g = GraphBuilder()
    model = g.model([g.relu(g.conv(g.relu(g.conv(stem(g), 16, 16)), 16, 24))])
    return host_graph(render(model, int8_recipe(model), Style.ORT))


def _dequantised(engine: bytes) -> dict[str, np.ndarray]:
    """Return each constant that a DequantizeLinear reads, in real numbers."""
    model = onnx.load_model_from_string(engine)
    constants = {
        t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer
    }
    found = {}
    for node in model.graph.node:
        if (
            node.op_type == "DequantizeLinear"
            and node.input[0] in constants
            and len(node.input) > 2
        ):
            levels, scale, zero = (constants[name] for name in node.input)
            found[node.output[0]] = (levels - zero.flat[0]) * scale.reshape(-1, 1, 1, 1)
    return found


@pytest.mark.parametrize("form", WEIGHT_FORMS)
def test_both_forms_hold_the_same_numbers(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _engine()
    assert stored_form(engine) == "uint8"
    monkeypatch.setattr(integer_kernels, "exact_forms", lambda: (form,))
    loaded = with_suited_weights(engine)
    assert stored_form(loaded) == form
    assert (loaded == engine) is (form == "uint8")
    before, after = _dequantised(engine), _dequantised(loaded)
    assert len(before) == 2
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)
    monkeypatch.setattr(integer_kernels, "exact_forms", lambda: ("uint8",))
    again = with_suited_weights(loaded)  # as an engine of an earlier version is loaded
    assert stored_form(again) == "uint8"
    for name, values in _dequantised(again).items():
        np.testing.assert_array_equal(values, before[name])


def test_an_engine_without_int8_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[str, ...]:
        raise AssertionError("nothing is to be probed")

    monkeypatch.setattr(integer_kernels, "exact_forms", refuse)
    engine = host_graph(detector())
    assert with_suited_weights(engine) is engine
    assert stored_form(engine) is None


def test_the_engine_is_the_same_file_on_every_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    model = detector()
    rendered = render(model, int8_recipe(model), Style.ORT)
    built = []
    for form in WEIGHT_FORMS:
        monkeypatch.setattr(integer_kernels, "exact_forms", lambda form=form: (form,))
        built.append(build_engine(rendered, Target.parse("cpu"), Precision.INT8))
    assert built[0].files == built[1].files
    assert [engine.info["weights"] for engine in built] == ["uint8", "uint8"]


def test_a_cpu_without_exact_kernels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_kernels, "exact_forms", tuple)
    monkeypatch.setattr(integer_kernels, "inexact_kernels", lambda _: ["Conv 1x1"])
    with pytest.raises(UnsupportedTargetError, match=r"inexactly .*Conv 1x1.*--precision fp32"):
        with_suited_weights(_engine())


def test_the_form_of_engines_is_exact_here() -> None:
    assert "uint8" in exact_forms()


@pytest.mark.parametrize("wrong", [0, 3])
def test_a_kernel_that_is_wrong_is_found(wrong: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One result of one kernel, planted."""
    opened = integer_kernels._open

    class Planted:
        def __init__(self, model: onnx.ModelProto) -> None:
            self._session = opened(model)

        def run(self, names: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            found = self._session.run(names, feeds)
            found[wrong].flat[-1] ^= 0x10
            return found

    for form in exact_forms():
        assert inexact_kernels(form) == []
    monkeypatch.setattr(integer_kernels, "_open", Planted)
    for form in exact_forms():
        assert inexact_kernels(form) == [list(integer_kernels._KERNELS)[wrong]]


def test_the_gain_is_measured_once() -> None:
    first = measured_gain()
    assert all(0.1 < gain < 100 for gain in first)
    assert measured_gain() is first
