"""Sensitivity: one unit's noise, measured against a computation by hand; and the cost model."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt import calib
from maskrt.calib.cost import MACHINES, layer_seconds, recipe_seconds
from maskrt.calib.sensitivity import measure_sensitivity, units
from maskrt.core import InputError, Precision


def _model(*, cut: bool = False) -> onnx.ModelProto:
    """`images` → float NCHW → conv a (16 → 16) → Relu → conv b, and b again on another branch."""
    rng = np.random.default_rng(0)
    weights = {n: rng.normal(0, 0.2, (16, 16, 1, 1)).astype(np.float32) for n in ("wa", "wb")}
    nodes = [
        helper.make_node("Cast", ["images"], ["x32"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x32", "wa"], ["a"], name="a"),
        helper.make_node("Relu", ["a"], ["ra"]),
        helper.make_node("Conv", ["ra", "wb"], ["b"], name="b"),
        helper.make_node("Neg", ["ra"], ["na"]),
        helper.make_node("Conv", ["na", "wb"], ["b2"], name="b.2"),
    ]
    shape = [1, 16, 6, 5]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("b", "b2")],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
        value_info=[
            helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)
            for n in ("x32", "a", "ra", "na")
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def _pictures() -> list[np.ndarray]:
    return [np.random.default_rng(1).integers(0, 256, (1, 16, 6, 5)).astype(np.uint8)]


def _recipe(model: onnx.ModelProto) -> calib.Recipe:
    return calib.make_recipe(
        model, Precision.INT8, calib.collect_statistics(model, _pictures()), method="minmax"
    )


def _quantised(x: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    return np.clip(np.rint(x / scale), -127, 127) * scale


def test_layers_that_share_a_weight_are_one_unit() -> None:
    assert units(calib.place(_model())) == (("a",), ("b", "b.2"))


def test_noise_is_that_of_the_unit_alone() -> None:
    model = _model()
    found = measure_sensitivity(model, _recipe(model), _pictures())
    wa, wb = (numpy_helper.to_array(t)[:, :, 0, 0] for t in model.graph.initializer)
    x = _pictures()[0].astype(np.float64)

    def conv(weight: np.ndarray, data: np.ndarray) -> np.ndarray:
        return np.einsum("oc,nchw->nohw", weight, data)

    def rows(weight: np.ndarray) -> np.ndarray:
        return _quantised(weight, np.abs(weight).max(1, keepdims=True) / 127)

    ra = np.maximum(conv(wa, x), 0)
    exact = [conv(wb, ra), conv(wb, -ra)]
    noisy_ra = np.maximum(conv(rows(wa), _quantised(x, x.max() / 127)), 0)
    low = _quantised(ra, ra.max() / 127)
    expected = {
        ("a",): [conv(wb, noisy_ra), conv(wb, -noisy_ra)],
        ("b", "b.2"): [conv(rows(wb), low), conv(rows(wb), -low)],
    }
    for unit, near in expected.items():
        noise = sum(
            np.square(n - e).sum() / np.square(e).sum() for n, e in zip(near, exact, strict=True)
        )
        assert found[unit] == pytest.approx(noise, rel=0.02)


def test_no_picture_is_refused() -> None:
    with pytest.raises(InputError, match="no picture"):
        measure_sensitivity(_model(), _recipe(_model()), [])


def test_cost_falls_with_width_and_counts_each_position() -> None:
    model = _model()
    machine = replace(MACHINES["orin-nx"], launch=0.0)
    seconds = layer_seconds(model, machine)
    elements = 16 * 16 + 2 * 16 * 30  # weight, data, result: bytes decide at this size
    assert seconds["a"][Precision.FP32] == pytest.approx(4 * elements / 102.4e9)
    recipe = _recipe(model)
    wide = recipe.widen(["a"], "a test")
    assert wide.layers["a"].reason == "a test"
    assert wide.narrow_layers() == ["b", "b.2"]
    assert recipe_seconds(recipe, seconds) < recipe_seconds(wide, seconds)
    assert recipe_seconds(wide.with_precision(Precision.FP32), seconds) == pytest.approx(
        4 * recipe_seconds(recipe, seconds)
    )
    launched = layer_seconds(model, replace(machine, launch=1e-3))
    assert recipe_seconds(recipe, launched) == pytest.approx(
        recipe_seconds(recipe, seconds) + 1e-3 * len(recipe.layers)
    )
