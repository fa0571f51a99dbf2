"""INT8 for TensorRT-RTX: where its kernels gain by it, never more time or bytes than FP16."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.calib import Recipe, Style, render, suit_tensorrt_rtx
from maskrt.calib.cost import MACHINES, Machine
from maskrt.calib.fingerprint import fingerprint
from maskrt.calib.recipe import PER_TENSOR, LayerChoice, TensorScale
from maskrt.core import InputError, Precision

from .graphs import producer

INT8, FP16, FP32 = Precision.INT8, Precision.FP16, Precision.FP32
DESKTOP = MACHINES["gpu"]


def _graph(
    layers: dict[str, tuple[str, int, int]], *, size: int = 64, pooled: bool = False
) -> onnx.ModelProto:
    """Layers by name: what each reads, its input and output channels; 3x3 convolutions.

    With `pooled`, a RoIAlign of 512 boxes makes what a Gemm "fc" of 1024 outputs reads.
    """
    info, kind = helper.make_tensor_value_info, TensorProto.FLOAT
    nodes, constants, values, inputs = [], [], [], {}
    for name, (data, inside, outside) in layers.items():
        weight = np.random.default_rng(len(nodes)).normal(size=(outside, inside, 3, 3))
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}.w"))
        nodes.append(
            helper.make_node("Conv", [data, f"{name}.w"], [f"{name}.y"], name, pads=[1] * 4)
        )
        values.append(info(f"{name}.y", kind, [1, outside, size, size]))
        if not data.endswith(".y"):
            inputs[data] = info(data, kind, [1, inside, size, size])
    if pooled:
        inputs |= {"boxes": info("boxes", kind, [1, 512, 4]), "p": info("p", kind, [1, 64, 32, 32])}
        constants += [
            numpy_helper.from_array(np.zeros((1024, 3136), np.float32), "fc.w"),
            numpy_helper.from_array(np.array([512, 3136]), "flat"),
        ]
        nodes += [
            helper.make_node("MultilevelRoIAlign", ["boxes", "p"], ["pooled"], domain="maskrt"),
            helper.make_node("Reshape", ["pooled", "flat"], ["rows"]),
            helper.make_node("Gemm", ["rows", "fc.w"], ["fc.y"], "fc", transB=1),
        ]
        values += [
            info("pooled", kind, [1, 512, 64, 7, 7]), info("rows", kind, [512, 3136]),
            info("fc.y", kind, [512, 1024]),
        ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", list(inputs.values()), values[-1:], constants, value_info=values[:-1]
    )
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("maskrt", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _recipe(model: onnx.ModelProto, **choices: LayerChoice) -> Recipe:
    names = [node.name for node in model.graph.node if node.name]
    layers = {name: choices.get(name, LayerChoice(INT8)) for name in names}
    reads = {node.input[0] for node in model.graph.node}
    tensors = {name: TensorScale(-1.0, 1.0, {"minmax": 0.01}) for name in sorted(reads)}
    return Recipe(fingerprint(model), INT8, layers, tensors)


def _seconds_and_bytes(
    channels: int, size: int, machine: Machine, precision: Precision
) -> tuple[float, float]:
    """One 3x3 convolution as the module's text has it, written out: rounding included in INT8."""
    elements, weights = channels * size**2, 9 * channels**2
    operations = 2 * weights * size**2
    if precision is FP16:
        moved = 2.0 * (weights + 2 * elements)
        return machine.launch + max(
            operations / machine.peaks[FP16], moved / machine.bandwidth
        ), moved
    moved = weights + elements + 2.0 * elements
    layer = machine.launch + max(operations / machine.peaks[INT8], moved / machine.bandwidth)
    rounding = 3.0 * elements
    return layer + machine.launch + rounding / machine.bandwidth, moved + rounding


@pytest.mark.parametrize("channels", [16, 64, 256, 512, 1024])
@pytest.mark.parametrize("size", [4, 16, 64])
@pytest.mark.parametrize("machine", ["gpu", "orin-nx", "thor"])
def test_one_layer_is_int8_exactly_where_it_is_faster_and_moves_no_more(
    channels: int, size: int, machine: str
) -> None:
    model = _graph({"conv": ("x", channels, channels)}, size=size)
    found = suit_tensorrt_rtx(model, _recipe(model), MACHINES[machine])
    half = _seconds_and_bytes(channels, size, MACHINES[machine], FP16)
    narrow = _seconds_and_bytes(channels, size, MACHINES[machine], INT8)
    pays = narrow[0] < half[0] and narrow[1] <= half[1]
    assert found.layers["conv"].precision is (INT8 if pays else FP16)
    assert (found.layers["conv"].reason == "as asked") == pays


def test_both_answers_are_given() -> None:
    """So the test above can fail either way."""
    for channels, size, expected in ((512, 16, INT8), (16, 64, FP16)):
        model = _graph({"conv": ("x", channels, channels)}, size=size)
        found = suit_tensorrt_rtx(model, _recipe(model), DESKTOP)
        assert found.layers["conv"].precision is expected


def test_readers_of_one_tensor_share_its_rounding() -> None:
    """Alone neither of them saves what rounding costs in bytes; the two together do."""
    alone = _graph({"a": ("x", 96, 96)}, size=24)
    both = _graph({"a": ("x", 96, 96), "b": ("x", 96, 96)}, size=24)
    assert 9 * 96**2 < 2 * 96 * 24**2 < 2 * 9 * 96**2 + 96 * 24**2  # bytes; see the module's text
    machine = Machine("slow arithmetic", {FP16: 1e10, INT8: 1e12, FP32: 1e10}, 1e12, 0.0)
    assert not suit_tensorrt_rtx(alone, _recipe(alone), machine).narrow_layers()
    assert suit_tensorrt_rtx(both, _recipe(both), machine).narrow_layers() == ["a", "b"]


def test_bytes_saved_behind_roialign_are_spent_where_most_time_is_gained() -> None:
    convs = {"heavy": ("x", 256, 256), "light": ("z", 128, 128)}
    without = _graph(convs, size=48)
    assert not suit_tensorrt_rtx(without, _recipe(without), DESKTOP).narrow_layers()
    model = _graph(convs, size=48, pooled=True)
    assert suit_tensorrt_rtx(model, _recipe(model), DESKTOP).narrow_layers() == ["heavy", "fc"]


def test_what_is_no_int8_becomes_fp16_unless_it_refuses_that() -> None:
    model = _graph({"a": ("x", 512, 512), "b": ("a.y", 512, 512), "c": ("b.y", 512, 512)}, size=8)
    refused, wide = {INT8: "too few channels"}, {FP16: "too large", INT8: "too few channels"}
    recipe = _recipe(
        model,
        b=LayerChoice(FP32, "too few channels", refused),
        c=LayerChoice(FP32, "too few channels", wide),
    )
    found = suit_tensorrt_rtx(model, recipe, DESKTOP)
    assert [c.precision for c in found.layers.values()] == [INT8, FP16, FP32]
    small = _graph({"a": ("x", 16, 16)}, size=8)
    kept = _recipe(small, a=LayerChoice(INT8, "as asked", {FP16: "too large"}))
    assert suit_tensorrt_rtx(small, kept, DESKTOP).layers["a"] == LayerChoice(
        FP32, "too large", {FP16: "too large"}
    )
    assert suit_tensorrt_rtx(model, (fp16 := recipe.with_precision(FP16)), DESKTOP) is fp16


def test_weights_get_one_scale_and_skip_branches_none() -> None:
    model = _graph({"a": ("x", 512, 512)}, size=8)
    found = suit_tensorrt_rtx(model, _recipe(model), DESKTOP)
    for recipe, shape in ((found, ()), (_recipe(model), (512,))):
        rendered = render(model, recipe, Style.TENSORRT)
        (conv,) = [node for node in rendered.graph.node if node.op_type == "Conv"]
        dequantized = producer(rendered, conv.input[1])
        scale = next(t for t in rendered.graph.initializer if t.name == dequantized.input[1])
        assert tuple(scale.dims) == shape


def test_it_is_data() -> None:
    model = _graph({"a": ("x", 512, 512)}, size=8)
    found = suit_tensorrt_rtx(model, _recipe(model), DESKTOP)
    data = found.to_json()
    assert data["weight_scales"] == PER_TENSOR
    assert Recipe.from_json(data) == found
    assert "weight_scales" not in _recipe(model).to_json()
    assert data["format_version"] > _recipe(model).to_json()["format_version"]
    with pytest.raises(InputError, match="weight_scales is 'row'"):
        Recipe.from_json({**data, "weight_scales": "row"})
