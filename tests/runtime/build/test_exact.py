"""The exact evaluation: floats that hold the integers of a target's kernels, no integer kernel."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.calib import Style, render
from maskrt.calib.recipe import PER_TENSOR
from maskrt.core import Precision
from maskrt.runtime.backends import cpu
from maskrt.runtime.build.exact import exact_graph, hold_integers
from maskrt.runtime.build.host_graph import host_graph

from ...calib.graphs import detector, int8_recipe, pictures

ort = pytest.importorskip("onnxruntime")
LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, dict[str, Any]]] = {
    # operator and case: data, weights, axis of the output channels, attributes
    "Conv": ((2, 32, 9, 9), (24, 32, 3, 3), 0, {"pads": [1] * 4, "strides": [2, 2]}),
    "Conv grouped": ((1, 32, 9, 9), (24, 8, 3, 3), 0, {"group": 4}),
    "Conv 1-D": ((1, 32, 9), (24, 32, 3), 0, {}),
    "ConvTranspose": ((1, 32, 5, 5), (32, 24, 4, 4), 1, {"strides": [2, 2], "pads": [1] * 4}),
    "Gemm": ((3, 64), (64, 24), 1, {}),
    "Gemm transposed": ((3, 64), (24, 64), 0, {"transB": 1}),
    "MatMul": ((3, 64), (64, 24), 1, {}),
}


def _layer(
    case: str, *, per_tensor: bool, half: bool, generator: np.random.Generator
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A layer as explicit Q/DQ has it, with an int8 tensor as input; and its numbers."""
    of_data, of_weight, axis, attributes = LAYERS[case]
    kind, element = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    channels = of_weight[axis]
    numbers = {
        "data": generator.integers(-127, 128, of_data).astype(np.int8),
        "weight": generator.integers(-127, 128, of_weight).astype(np.int8),
        "step": np.asarray(0.0371, kind),
        "scale": np.asarray(
            0.00213 if per_tensor else generator.uniform(1e-3, 4e-3, channels), kind
        ),
        "bias": generator.normal(0, 9, channels).astype(kind),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["data", "step"], ["x"]),
        helper.make_node("DequantizeLinear", ["weight", "scale"], ["w"], axis=axis),
        helper.make_node(
            case.split()[0], ["x", "w"] if case == "MatMul" else ["x", "w", "bias"], ["y"],
            "layer", **attributes,
        ),
    ]  # fmt: skip
    constants = [numpy_helper.from_array(v, n) for n, v in numbers.items() if n != "data"]
    graph = helper.make_graph(
        nodes, "layer", [helper.make_tensor_value_info("data", TensorProto.INT8, of_data)],
        [helper.make_tensor_value_info("y", element, None)], constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]), numbers


def _evaluated(model: onnx.ModelProto, feeds: dict[str, np.ndarray], file: Path) -> np.ndarray:
    """Run as `CpuBackend(exact=True)` does, and keep what ONNX Runtime makes of it."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(file)
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"],
        disabled_optimizers=list(cpu._MOVES_SCALES),
    )  # fmt: skip
    return session.run(None, feeds)[0]


def _integer_sums(case: str, data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the sums of products in int64, by definition."""
    _, _, _, attributes = LAYERS[case]
    x, w = data.astype(np.int64), weight.astype(np.int64)
    if data.ndim == 2:
        return x @ (w.T if attributes.get("transB") else w)
    steps = attributes.get("strides", [1] * (data.ndim - 2))
    pads = attributes.get("pads", [0] * 2 * len(steps))
    if case == "ConvTranspose":
        size = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], steps, w.shape[2:], strict=True)]
        whole = np.zeros((len(x), w.shape[1], *size), np.int64)
        for i, j in np.ndindex(*x.shape[2:]):
            at = whole[:, :, i * steps[0] : i * steps[0] + 4, j * steps[1] : j * steps[1] + 4]
            at += np.einsum("nc,cmhw->nmhw", x[:, :, i, j], w)
        return whole[:, :, pads[0] : -pads[2], pads[1] : -pads[3]]
    rank = len(steps)
    x = np.pad(x, [(0, 0), (0, 0), *((pads[i], pads[i + rank]) for i in range(rank))])
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=range(2, 2 + rank))
    windows = windows[(..., *(slice(None, None, s) for s in steps), *[slice(None)] * rank)]
    groups = attributes.get("group", 1)
    letters = "hw"[:rank]
    rule = f"nc{letters}{letters.upper()},mc{letters.upper()}->nm{letters}"
    parts = zip(np.split(windows, groups, 1), np.split(w, groups, 0), strict=True)
    return np.concatenate([np.einsum(rule, a, b) for a, b in parts], axis=1)


@pytest.mark.parametrize("case", LAYERS)
@pytest.mark.parametrize("per_tensor", [False, True], ids=["channel", "tensor"])
def test_a_layer_is_integers_times_one_factor(case: str, per_tensor: bool, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    model, numbers = _layer(case, per_tensor=per_tensor, half=False, generator=generator)
    assert hold_integers(model) == ["layer"]
    found = _evaluated(model, {"data": numbers["data"]}, tmp_path / "o.onnx")
    sums = _integer_sums(case, numbers["data"], numbers["weight"])
    along = (-1, *[1] * (sums.ndim - 2)) if sums.ndim > 2 else (-1,)
    factor = numbers["step"] * numbers["scale"]
    expected = sums.astype(np.float32) * (factor.reshape(along) if factor.ndim else factor)
    if case != "MatMul":
        expected = expected + numbers["bias"].reshape(along)
    np.testing.assert_array_equal(found, expected.astype(np.float32))  # to the last bit
    left = {node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node}
    assert not {kind for kind in left if "QLinear" in kind or "Integer" in kind or "QGemm" in kind}
    assert "Mul" in left  # the scale was not moved into the weights


def test_half_layers_are_rounded_once_behind_the_factor(tmp_path: Path) -> None:
    """Not 11 bits of each dequantised number before it is multiplied, as the graph has it."""
    generator = np.random.default_rng(1)
    model, numbers = _layer("Conv", per_tensor=True, half=True, generator=generator)
    hold_integers(model)
    found = _evaluated(model, {"data": numbers["data"]}, tmp_path / "o.onnx")
    sums = _integer_sums("Conv", numbers["data"], numbers["weight"]).astype(np.float32)
    factor = numbers["step"].astype(np.float32) * numbers["scale"].astype(np.float32)
    bias = numbers["bias"].astype(np.float32).reshape(-1, 1, 1)
    np.testing.assert_array_equal(found, (sums * factor + bias).astype(np.float16))


@pytest.mark.parametrize("near_miss", ["float weights", "scales along another axis", "alpha"])
def test_what_is_no_integer_layer_stays_as_it_is(near_miss: str) -> None:
    generator = np.random.default_rng(1)
    model, numbers = _layer("Gemm", per_tensor=False, half=False, generator=generator)
    nodes = model.graph.node
    if near_miss == "float weights":
        weight = numpy_helper.from_array(numbers["weight"].astype(np.float32), "float")
        model.graph.initializer.append(weight)
        nodes[2].input[1] = "float"
    elif near_miss == "alpha":
        nodes[2].attribute.append(helper.make_attribute("alpha", 0.5))
    else:
        next(a for a in nodes[1].attribute if a.name == "axis").i = 0
    before = [node.SerializeToString() for node in nodes[2:]]
    assert hold_integers(model) == []
    assert [node.SerializeToString() for node in model.graph.node][-1:] == before


def _levels(engine: bytes, exact: bool, names: list[str], images: np.ndarray) -> list[np.ndarray]:
    model = onnx.load_model_from_string(engine)
    for name in names:
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    options, more = ort.SessionOptions(), {}
    options.log_severity_level = 3
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        more["disabled_optimizers"] = list(cpu._MOVES_SCALES)
    providers = ["CPUExecutionProvider"]
    session = ort.InferenceSession(model.SerializeToString(), options, providers=providers, **more)
    return session.run(names, {"images": images})


def test_the_integer_kernels_of_a_cpu_give_the_same_levels() -> None:
    """Layers, residual sums and what only moves levels, in a whole detector."""
    model = detector()
    rendered = render(model, int8_recipe(model), Style.ORT)
    engine = host_graph(rendered)
    names = [
        node.output[0]
        for node in onnx.load_model_from_string(engine).graph.node
        if node.op_type == "QuantizeLinear"
    ]
    images = pictures(1, 5)
    pairs = zip(
        _levels(engine, False, names, images),
        _levels(exact_graph(rendered), True, names, images),
        strict=True,
    )
    differing = {name: int((a != b).sum()) for name, (a, b) in zip(names, pairs, strict=True)}
    # The first layer is FP32, and one level there may round to either side: where it does, in
    # another sum's order, what follows is another picture.
    assert differing[names[0]] <= 2
    if not differing[names[0]]:
        assert differing == dict.fromkeys(names, 0)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_the_graph_for_a_gpu_is_near_fp32_and_has_its_own_grids(half: bool) -> None:
    model = detector()
    recipe = int8_recipe(model)
    if half:
        from dataclasses import replace

        recipe = replace(recipe.with_precision(Precision.INT8, rest=Precision.FP16),
                         weight_scales=PER_TENSOR)  # fmt: skip
    images = pictures(1, 5)
    name = model.graph.output[0].name
    (expected,) = _levels(model.SerializeToString(), True, [name], images)
    (found,) = _levels(exact_graph(render(model, recipe, Style.TENSORRT)), True, [name], images)
    noise = np.square(found - expected).mean() / np.square(expected).mean()
    assert 1e-6 < noise < 10 ** (-2.0 if half else -2.6)
