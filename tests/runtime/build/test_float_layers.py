"""ONNX Runtime quantises float layers that stand between Q/DQ; a recipe's choice must hold."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.runtime.build.float_layers import keep_float_layers
from maskrt.runtime.build.layers import find_heavy_layers
from maskrt.runtime.build.optimised_graph import precisions_in, save_optimised

onnxruntime = pytest.importorskip("onnxruntime")


def float_between(
    *, relu: bool = True, pool: bool = False, output: bool = False
) -> onnx.ModelProto:
    """Q → DQ → [MaxPool] → Conv with float weights → [Relu] → Q → DQ."""
    random = np.random.default_rng(0)
    constants = {
        "w": (random.standard_normal((8, 8, 3, 3)) * 0.1).astype(np.float32),
        "b": random.standard_normal(8).astype(np.float32),
        "s": np.float32(0.02),
        "z": np.uint8(0),
    }
    quantised = "moved" if pool else "dq"
    window = {"kernel_shape": [1, 1], "strides": [1, 1]}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"]),
        *([helper.make_node("MaxPool", ["dq"], ["moved"], **window)] if pool else []),
        helper.make_node("Conv", [quantised, "w", "b"], ["c"], "wide", pads=[1] * 4),
        *([helper.make_node("Relu", ["c"], ["r"])] if relu else []),
        helper.make_node("QuantizeLinear", ["r" if relu else "c", "s", "z"], ["q2"]),
        helper.make_node("DequantizeLinear", ["q2", "s", "z"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    shape = [1, 8, 6, 6]
    also = [info("c", TensorProto.FLOAT, shape)] if output else []
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", TensorProto.FLOAT, shape)],
        [info("y", TensorProto.FLOAT, shape), *also],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def precision_of_wide(model: onnx.ModelProto, folder) -> str:
    onnx.save(model, folder / "model.onnx")
    save_optimised(onnxruntime, folder / "model.onnx", folder / "optimised.onnx")
    found = precisions_in(onnx.load(folder / "optimised.onnx"), find_heavy_layers(model))
    return found["wide"].value


def test_without_the_guard_the_layer_comes_back_int8(tmp_path):
    # Should this fail, ONNX Runtime leaves float layers alone: drop the guard.
    assert precision_of_wide(float_between(), tmp_path) == "int8"


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("pool", [True, False])
def test_a_guarded_layer_stays_float_and_its_values_stay(tmp_path, run, relu, pool):
    model = float_between(relu=relu, pool=pool)
    x = np.random.default_rng(1).random((1, 8, 6, 6)).astype(np.float32)
    (expected,) = run(model, {"x": x})
    assert keep_float_layers(model, find_heavy_layers(model)) == ["wide"]
    onnx.checker.check_model(model, full_check=True)
    (found,) = run(model, {"x": x})
    assert (found == expected).all()
    assert precision_of_wide(model, tmp_path) == "fp32"


def test_a_result_that_others_read_too_needs_no_guard():
    model = float_between(output=True)
    assert keep_float_layers(model, find_heavy_layers(model)) == []


def test_an_int8_layer_gets_no_guard(small_network):
    model = small_network("int8", results=True)
    assert keep_float_layers(model, find_heavy_layers(model)) == []
