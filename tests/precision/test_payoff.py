"""When INT8 will not beat FP16, and why: each reason planted, and a model where it does."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.calib import Recipe
from maskrt.calib.cost import MACHINES, layer_seconds, machine_of
from maskrt.calib.recipe import LayerChoice, TensorScale
from maskrt.core import TARGETS, Precision, Target
from maskrt.precision.payoff import payoff

INT8, FP16 = Precision.INT8, Precision.FP16


def _model(channels: int, size: int, layers: int) -> onnx.ModelProto:
    """A chain of convolutions."""
    weight = np.zeros((channels, channels, 3, 3), np.float32)
    shape = [1, channels, size, size]
    nodes = [
        helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], f"conv{i}", pads=[1] * 4)
        for i in range(layers)
    ]
    info = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, shape) for i in range(layers)]
    end = helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, shape)
    constants = [numpy_helper.from_array(weight, f"w{i}") for i in range(layers)]
    graph = helper.make_graph(nodes, "chain", info[:1], [end], constants, value_info=info[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])


def _recipe(layers: int, narrow: int) -> Recipe:
    chosen = {f"conv{i}": LayerChoice(INT8 if i < narrow else FP16) for i in range(layers)}
    scales = {f"x{i}": TensorScale(0.0, 1.0, {"minmax": 0.1}) for i in range(layers)}
    return Recipe("g", INT8, chosen, scales, rest=FP16)


def _paying(
    channels: int, size: int, narrow: int, target: str = "orin-nx", **info: Any
) -> dict[str, Any]:
    return payoff(_model(channels, size, 8), _recipe(8, narrow), Target.parse(target), info)


def test_it_pays_where_layers_are_large() -> None:
    found = _paying(256, 128, 8)
    assert found["pays"]
    assert found["fp16_ms"] / found["int8_ms"] == pytest.approx(2, abs=0.05)
    assert "2.0 times as fast as FP16" in found["sentence"]
    assert "Jetson Orin NX 8 GB" in found["sentence"]


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ({"channels": 16, "size": 8, "narrow": 8}, "launching them takes most of the time"),
        ({"channels": 256, "size": 128, "narrow": 1}, "only 1 of the layers are INT8"),
        (
            {"channels": 64, "size": 64, "narrow": 8, "target": "rtx",
             "kernels": {"rounding": 90}, "traffic_bytes": {"rounding": 90_000_000}},
            "rounding that did not fuse costs what INT8 gains",
        ),
    ],
)  # fmt: skip
def test_it_says_why_it_does_not(case: dict[str, Any], why: str) -> None:
    found = _paying(**case)
    assert not found["pays"]
    assert found["sentence"].startswith("INT8 will hardly beat FP16, since")
    assert why in found["sentence"]


def test_rounding_kernels_are_what_makes_the_difference() -> None:
    assert _paying(64, 256, 8, "rtx")["pays"]
    counted = {"kernels": {"rounding": 8}, "traffic_bytes": {"rounding": 8 * 64 * 256**2 * 5}}
    with_them = _paying(64, 256, 8, "rtx", **counted)
    assert with_them["int8_ms"] > _paying(64, 256, 8, "rtx")["int8_ms"]
    assert "8 kernels that round" in with_them["sentence"]


@pytest.mark.parametrize(
    ("gains", "pays", "words"),
    [
        ((1.5, 1.25), True, "0.67 of FP32's time in 3x3 convolutions and 0.80 in 1x1"),
        ((1.1, 1.0), False, "INT8 hardly beats FP32 here"),
    ],
)
def test_a_cpu_is_measured(
    monkeypatch: pytest.MonkeyPatch, gains: tuple[float, float], pays: bool, words: str
) -> None:
    monkeypatch.setattr("maskrt.precision.payoff.measured_gain", lambda: gains)
    found = _paying(64, 64, 8, "cpu")
    assert found["pays"] is pays
    assert words in found["sentence"]
    assert f"measured on {found['cpu']}" in found["sentence"]


def test_what_is_said_of_this_cpu_is_what_its_convolutions_take() -> None:
    found = _paying(64, 64, 8, "cpu")
    assert found["gain_3x3"] > 0.2
    assert found["pays"] is (found["gain_3x3"] * found["gain_1x1"] >= 1.1**2)


def test_nothing_is_said_of_a_recipe_without_int8() -> None:
    assert _paying(64, 64, 0) == {}


def test_every_target_with_a_gpu_has_a_machine() -> None:
    for target in TARGETS.values():
        machine = machine_of(target)
        assert (target.name in MACHINES) == (target.backend == "tensorrt")
        assert machine.peaks[INT8] > machine.peaks[FP16] > machine.peaks[Precision.FP32]
    fast, slow = (layer_seconds(_model(64, 64, 1), MACHINES[n]) for n in ("agx-orin", "orin-nano"))
    assert fast["conv0"][INT8] < slow["conv0"][INT8]
