"""Which nodes a DLA takes: those of NVIDIA's table that the recipe has narrow; and near misses."""

import re

import numpy as np
import onnx
import pytest

from maskrt.calib import accelerated, calibration_cache, implicit_scales, make_recipe, place
from maskrt.core import InputError, Precision

from .graphs import GraphBuilder, calibrated, detector, int8_recipe, producer, stem

FP16 = Precision.FP16


def _taken(model: onnx.ModelProto, precision: Precision = FP16) -> tuple[set[str], dict[str, str]]:
    recipe = int8_recipe(model) if precision is Precision.INT8 else make_recipe(model, precision)
    found = accelerated(model, recipe)
    names = {node.name for node in model.graph.node if node.output[0] in found.takes}
    return names, found.leaves


def _chain(middle: str | None = None, **attributes: object) -> tuple[onnx.ModelProto, str]:
    """Two convolutions with one node between; return that node's name."""
    g = GraphBuilder()
    first = g.relu(g.conv(stem(g), 16, 16))
    if middle is None:
        between = g.op("Conv", first, g.weight(16, 16, 3, 3), name="between", **attributes)
    elif middle == "ConvTranspose":
        wide = g.constant(g.random.normal(0, 0.1, (16, 16, 2, 2)).astype(np.float32))
        between = g.op(middle, first, wide, name="between", **attributes)
    else:
        between = g.op(middle, first, name="between", **attributes)
    return g.model([g.conv(between, 16, 16)]), "between"


@pytest.mark.parametrize("precision", [Precision.INT8, FP16])
def test_a_detectors_convolutions_go_and_its_products_stay(precision: Precision) -> None:
    model = detector()
    taken, leaves = _taken(model, precision)
    layers = {layer.name: layer for layer in place(model).layers}
    assert {n for n, x in layers.items() if x.op_type == "Gemm"} <= set(leaves)
    assert all("a DLA has no Gemm" in leaves[n] for n in leaves if layers[n].op_type == "Gemm")
    convolutions = {n for n, x in layers.items() if x.op_type.startswith("Conv")}
    narrow = convolutions - ({"first"} if precision is Precision.INT8 else set())
    assert taken & set(layers) == narrow
    assert taken | set(leaves) >= set(layers)
    kinds = [node.op_type for node in model.graph.node if node.name in taken]
    # Three residual sums and the FPN's; the first one's skip is FP32 where the first layer is.
    assert kinds.count("Add") == (3 if precision is Precision.INT8 else 4)
    assert {"Relu", "Resize"} <= set(kinds)
    assert not {"Cast", "Transpose", "Mul", "Softmax", "Flatten"} & set(kinds)


def test_an_fp32_layer_stays_with_the_recipe() -> None:
    model = detector()
    _, leaves = _taken(model, Precision.INT8)
    assert leaves["first"] == "it is fp32 in the recipe"
    found = accelerated(model, make_recipe(model, Precision.FP32))
    assert (found.takes, found.loadables) == (frozenset(), 0)
    with pytest.raises(InputError, match="the recipe is for graph"):
        accelerated(model, make_recipe(detector(seed=1), FP16))


@pytest.mark.parametrize(
    ("middle", "fits", "misses", "reason"),
    [
        (None, {"strides": [8, 8]}, {"strides": [9, 9]}, r"strides \[9, 9\] is not within 1 to 8"),
        (None, {"dilations": [7, 7], "pads": [7] * 4}, {"pads": [32] * 4}, "pads"),
        ("MaxPool", {"kernel_shape": [8, 8]}, {"kernel_shape": [9, 9]}, ""),
        ("MaxPool", {"kernel_shape": [2, 2]}, {"kernel_shape": [2, 2], "ceil_mode": 1}, ""),
        ("ConvTranspose", {"strides": [2, 2]}, {"strides": [2, 2], "pads": [1] * 4}, "pads"),
        ("Sigmoid", {}, None, ""),
        ("Elu", None, {}, ""),
    ],
)
def test_limits_and_near_misses(
    middle: str | None, fits: dict | None, misses: dict | None, reason: str
) -> None:
    if fits is not None:
        model, name = _chain(middle, **fits)
        assert name in _taken(model)[0]
    if misses is not None:
        model, name = _chain(middle, **misses)
        taken, leaves = _taken(model)
        assert name not in taken
        if reason:
            assert re.search(reason, leaves[name])


@pytest.mark.parametrize(("size", "goes"), [(22, True), (23, False)])
def test_a_kernel_is_read_off_the_weight(size: int, goes: bool) -> None:
    """TensorRT has switched deconvolutions from 23 on off; a node need not state its kernel."""
    g = GraphBuilder()
    weight = g.constant(np.zeros((16, 16, size, size), np.float32))
    wide = g.op("ConvTranspose", g.relu(g.conv(stem(g), 16, 16)), weight, name="between")
    taken, leaves = _taken(g.model([g.conv(wide, 16, 16)]))
    assert ("between" in taken) is goes
    assert goes or leaves["between"] == "its kernel [23, 23] is beyond 22"


def test_islands_are_counted_where_the_gpu_comes_between() -> None:
    whole, _ = _chain("Sigmoid")
    split, _ = _chain("Elu")
    found = [accelerated(model, make_recipe(model, FP16)).loadables for model in (whole, split)]
    assert found == [1, 2]


def test_what_lies_between_without_a_layer_is_left() -> None:
    """A lone Relu is no reason for a loadable."""
    g = GraphBuilder()
    first = g.op("Elu", g.conv(stem(g), 16, 16))
    lonely = g.op("Elu", g.relu(first))
    model = g.model([g.conv(lonely, 16, 16)])
    (relu,) = [n for n in model.graph.node if n.op_type == "Relu" and first in n.input]
    found = accelerated(model, make_recipe(model, FP16))
    assert relu.output[0] not in found.takes
    assert found.loadables == 2


def test_int8_on_a_dla_has_a_scale_for_every_tensor() -> None:
    """A DLA has no other type to fall back to: its nodes read and make tensors of the cache."""
    model = detector()
    recipe = make_recipe(model, Precision.INT8, calibrated(model))
    scales = implicit_scales(model, recipe)
    constants = {tensor.name for tensor in model.graph.initializer}
    for output in accelerated(model, recipe).takes:
        node = producer(model, output)
        for name in (*node.input, *node.output):
            assert name in scales or name in constants or not name, (node.name, name)
    lines = calibration_cache(scales, (8, 5, 2)).splitlines()
    assert lines[0] == "TRT-8502-EntropyCalibration2"
    assert len(lines) == 1 + len(scales)
