import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from maskrt.core import Precision, PrecisionError, Target, UnsupportedTargetError
from maskrt.runtime.build import build_engine

onnxruntime = pytest.importorskip("onnxruntime")
CPU = Target.parse("cpu")


def run_engine(engine: bytes, picture: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(engine, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": picture})[0]


def test_an_fp32_engine_is_the_graph_and_computes_in_fp32(small_network, picture, run):
    model = small_network("fp32")
    engine = build_engine(model, CPU, Precision.FP32)
    assert engine.info["layers"] == {"int8": 0, "fp16": 0, "fp32": 4, "unknown": 0}
    assert engine.info["wider"] == []
    assert engine.info["note"] == ""
    assert engine.info["bytes"] == len(engine.files["engine.onnx"])
    assert engine.info["runs_here"]
    assert json.loads(json.dumps(engine.info)) == engine.info
    (expected,) = run(model, {"images": picture})
    found = run_engine(engine.files["engine.onnx"], picture)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_engine_holds_standard_operators_only(small_network):
    engine = build_engine(
        small_network("int8", results=True, wide=["head.up"]), CPU, Precision.INT8
    )
    model = onnx.load_from_string(engine.files["engine.onnx"])
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions


def test_the_model_that_was_handed_in_is_not_changed(small_network):
    model = small_network("fp16")
    before = model.SerializeToString()
    build_engine(model, CPU, Precision.FP16)
    assert model.SerializeToString() == before


def test_int8_layers_are_counted_and_the_wide_one_is_named(small_network):
    model = small_network("int8", results=True, wide=["head.up"])
    info = build_engine(model, CPU, Precision.INT8).info
    assert info["layers"] == {"int8": 3, "fp16": 0, "fp32": 1, "unknown": 0}
    assert info["wider"] == ["head.up"]


def test_levels_of_optimisation_agree_on_the_integer_operators(small_network, tmp_path):
    # What is read back at EXTENDED has to hold for what runs at ALL.
    model = small_network("int8", results=True, wide=["head.up"])
    engine = build_engine(model, CPU, Precision.INT8).files["engine.onnx"]
    counts = []
    for level in ("ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(tmp_path / f"{level}.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(engine, options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(tmp_path / f"{level}.onnx").graph.node
        counts.append(sum(node.op_type in ("QLinearConv", "QGemm") for node in nodes))
    assert counts == [3, 3]


def test_int8_that_onnx_runtime_leaves_in_float_is_refused_by_name(small_network):
    # Without Q/DQ on their results, convolutions are not fused, and compute in float.
    with pytest.raises(PrecisionError, match=r"body\.first \(Conv, int8 came back fp32\)"):
        build_engine(small_network("int8"), CPU, Precision.INT8)


def test_half_a_pair_of_quantisers_is_refused(small_network):
    model = small_network("int8", results=True, wide=["head.up"], half_pair=["body.first"])
    with pytest.raises(PrecisionError, match=r"1 of 4 layers .* body\.first"):
        build_engine(model, CPU, Precision.INT8)


def test_fp16_is_computed_in_fp32_and_says_so(small_network):
    info = build_engine(small_network("fp16"), CPU, Precision.FP16).info
    if info["layers"]["fp16"]:  # a CPU with FP16 convolutions, such as one of Arm
        pytest.skip("this CPU computes FP16 convolutions")
    assert info["layers"] == {"int8": 0, "fp16": 0, "fp32": 4, "unknown": 0}
    assert info["wider"] == ["body.first", "body.second", "head.up", "head.fc"]
    assert "computed in FP32" in info["note"]
    assert info["note"].count(".") == 1


@pytest.mark.parametrize("asked", [Precision.FP16, Precision.INT8])
def test_an_fp32_graph_is_not_sold_as_something_else(small_network, asked):
    with pytest.raises(PrecisionError, match=f"none of the 4 layers of the graph is {asked}"):
        build_engine(small_network("fp32"), CPU, asked)


@pytest.mark.parametrize("rendered", ["fp16", "int8"])
def test_a_narrower_graph_is_not_sold_as_fp32(small_network, rendered):
    with pytest.raises(PrecisionError, match="narrower"):
        build_engine(small_network(rendered), CPU, Precision.FP32)


def test_a_graph_that_onnx_runtime_does_not_take_is_one_sentence():
    node = helper.make_node("Frobnicate", ["x"], ["y"], "odd")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "g",
        [info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [info("y", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(UnsupportedTargetError, match=r"ONNX Runtime .* does not take") as caught:
        build_engine(model, CPU, Precision.FP32)
    assert "\n" not in str(caught.value)
