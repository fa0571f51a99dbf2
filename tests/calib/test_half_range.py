"""Values that FP16 cannot hold: the layer stays FP32, the recipe says why, the numbers stay right.

Each test first shows that FP16 everywhere, which a recipe without calibration gives, is wrong.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest

from maskrt.calib import Recipe, Style, layer_types, make_recipe, render
from maskrt.cli import main
from maskrt.core import Bundle, InputSpec, Manifest, Precision
from maskrt.runtime.build.host_graph import host_graph

from .graphs import SIZE, GraphBuilder, calibrated, pictures, run, snr_db, stem

FP16, FP32 = Precision.FP16, Precision.FP32


def _scaled(factor: float) -> onnx.ModelProto:
    """Three convolutions; the middle one's results are `factor` times what is usual."""
    g = GraphBuilder(2)
    first = g.relu(g.conv(stem(g), 16, 16))
    middle = g.op("Conv", first, g.weight(16, 16, 3, 3), pads=[1] * 4, name="middle")
    last = g.op("Conv", g.relu(middle), g.weight(16, 16, 1, 1), name="last")
    scale = np.float32(factor**0.5)  # neither weights nor inputs are out of range themselves
    for node in g.nodes[-3:]:
        if node.name == "middle":
            g.constants[node.input[1]] *= scale
        if node.name == "last":
            g.constants[node.input[1]] /= np.float32(factor)
    g.nodes.insert(-3, onnx.helper.make_node("Mul", [first, g.constant(scale)], ["scaled"], "mul"))
    g.nodes[-3].input[0] = "scaled"
    return g.model([last])


def _run_rounded(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    """Run an FP16 graph with every rounding, which ONNX Runtime would leave out on a CPU."""
    return run(onnx.load_model_from_string(host_graph(model)), images)


@pytest.mark.parametrize(
    ("factor", "reason"),
    [(3e4, "in calibration, more than FP16's 65504"), (3e-7, "where FP16 is subnormal")],
)
def test_the_layers_stay_fp32_and_say_why(factor: float, reason: str) -> None:
    model = _scaled(factor)
    images = pictures(1, seed=5)
    (expected,) = run(model, images)
    with np.errstate(invalid="ignore", over="ignore"):
        (blind,) = _run_rounded(render(model, make_recipe(model, FP16), Style.TENSORRT), images)
        assert not snr_db(expected, blind) > 45
    recipe = make_recipe(model, FP16, calibrated(model))
    for name in ("middle", "last"):
        assert recipe.layers[name].precision is FP32
        assert reason in recipe.layers[name].reason
    others = [c.precision for n, c in recipe.layers.items() if n not in ("middle", "last")]
    assert others == [FP16] * len(others)
    (found,) = _run_rounded(render(model, recipe, Style.TENSORRT), images)
    assert snr_db(expected, found) > 55


def _summed() -> onnx.ModelProto:
    """Two tensors that FP16 holds, their sum, which it does not, and one that brings it back."""
    g = GraphBuilder(2)
    first = g.relu(g.conv(stem(g), 16, 16))

    def large(sign: float) -> str:
        weight = g.weight(16, 16, 1, 1)
        g.constants[weight] = sign * 4e3 * np.abs(g.constants[weight]).astype(np.float32)
        return g.op("Conv", first, weight)

    total = g.op("Add", g.op("Add", large(1.0), large(1.0)), large(-1.0))
    weight = g.weight(16, 16, 1, 1)
    g.constants[weight] /= np.float32(1e4)
    return g.model([g.op("Conv", g.op("GlobalAveragePool", total), weight, name="last")])


def test_a_sum_that_overflows_is_not_made_in_fp16() -> None:
    model = _summed()
    recipe = make_recipe(model, FP16, calibrated(model))
    assert {choice.precision for choice in recipe.layers.values()} == {FP16}
    images = pictures(1, seed=5)
    (expected,) = run(model, images)
    (found,) = _run_rounded(render(model, recipe, Style.TENSORRT), images)
    assert snr_db(expected, found) > 55
    _, free = layer_types(model, recipe)  # nor by TensorRT 8
    sums = [node.output[0] for node in model.graph.node[-6:] if node.op_type == "Add"]
    assert sums[0] not in free


def test_an_int8_layer_does_not_put_out_fp16_that_overflows() -> None:
    model = _scaled(3e4)
    recipe = make_recipe(model, Precision.INT8, calibrated(model), rest=FP16)
    assert recipe.layers["middle"].precision is Precision.INT8
    images = pictures(1, seed=5)
    (expected,) = run(model, images)
    (found,) = _run_rounded(render(model, recipe, Style.TENSORRT), images)
    assert snr_db(expected, found) > 20


def test_small_values_among_larger_ones_do_no_harm() -> None:
    model = _scaled(1e-2)
    recipe = make_recipe(model, FP16, calibrated(model))
    assert {choice.precision for choice in recipe.layers.values()} == {FP16}


def test_inspect_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = _scaled(3e4)
    recipe = make_recipe(model, FP16, calibrated(model))
    outputs = {value.name: (1,) for value in model.graph.output}
    manifest = Manifest("test", InputSpec(SIZE, SIZE), outputs, precision=FP16)
    with Bundle.create(tmp_path / "b.maskrt", manifest) as bundle:
        bundle.write("model.onnx", model.SerializeToString())
        bundle.write("recipe.json", recipe.to_json())
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(tmp_path / "b.maskrt")])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "asked for fp16: 2 layers fp16, 2 layers fp32" in shown
    (line,) = [line for line in shown.splitlines() if line.strip().startswith("middle")]
    assert "fp32" in line
    assert "more than FP16's 65504" in line
    assert Recipe.from_json(recipe.to_json()) == recipe
