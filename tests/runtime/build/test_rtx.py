"""Real builds, without a GPU. Each takes about a second: a process that imports TensorRT-RTX."""

import json
import os
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.core import LAYER_PRECISIONS, Precision, PrecisionError, Target, UnsupportedTargetError
from maskrt.runtime import cuda_device
from maskrt.runtime.build import build_engine, rtx, worker, worker_main
from maskrt.runtime.build.lowered import lower_for

pytestmark = pytest.mark.rtx
RTX = Target.parse("rtx")


@pytest.mark.parametrize("precision", LAYER_PRECISIONS)
@pytest.mark.parametrize("target", ["rtx", "rtx-89"])
def test_an_engine_computes_in_what_was_asked(small_network, precision, target):
    engine = build_engine(small_network(precision.value), Target.parse(target), precision)
    info = engine.info
    none = {"int8": 0, "fp16": 0, "fp32": 0, "unknown": 0}
    assert info["layers"] == {**none, precision.value: 4}
    assert info["wider"] == []
    assert info["accelerators"] == (["sm89"] if target == "rtx-89" else ["sm80"])
    assert info["kernels"]["convolution"] == 3
    assert info["user_allocation"] is True  # so that a CUDA graph may hold it
    assert info["bytes"] == len(engine.files["engine.trt"])
    assert json.loads(json.dumps(info)) == info


def test_int8_tells_of_kernels_that_only_round(small_network):
    info = build_engine(small_network("int8"), RTX, Precision.INT8).info
    assert info["kernels"]["rounding"] >= 1
    assert "round" in info["note"]


def test_layers_left_wide_are_read_back_as_such(small_network):
    model = small_network("int8", wide=["body.first", "head.up"])
    info = build_engine(model, RTX, Precision.INT8).info
    assert info["layers"] == {"int8": 2, "fp16": 0, "fp32": 2, "unknown": 0}
    assert info["wider"] == ["body.first", "head.up"]


def test_int8_that_tensorrt_silently_computes_in_float_is_refused(small_network):
    # A scale of shape [1] passes the parser, and then every convolution runs in FP32.
    model = small_network("int8", scale_shape=(1,))
    with pytest.raises(PrecisionError, match=r"body\.first \(Conv, int8 came back fp32\)"):
        build_engine(model, RTX, Precision.INT8)


def test_half_a_pair_of_quantisers_is_refused(small_network):
    model = small_network("int8", half_pair=["body.second"])
    with pytest.raises(PrecisionError, match=r"1 of 4 layers .* body\.second"):
        build_engine(model, RTX, Precision.INT8)


@pytest.mark.parametrize("asked", [Precision.FP16, Precision.INT8])
def test_an_fp32_graph_is_not_sold_as_something_else(small_network, asked):
    with pytest.raises(PrecisionError, match=f"none of the 4 layers of the graph is {asked}"):
        build_engine(small_network("fp32"), RTX, asked)


def test_an_unreadable_plan_is_an_unknown_and_not_a_claim(small_network, monkeypatch):
    monkeypatch.setattr(rtx, "read_plan", lambda plan: None)
    info = build_engine(small_network("int8"), RTX, Precision.INT8).info
    assert info["layers"] == {"int8": 0, "fp16": 0, "fp32": 0, "unknown": 4}
    assert info["kernels"] is None
    assert "could not be read" in info["note"]


def one_node(node: onnx.NodeProto, output: int, shape: list[str | int]) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "g",
        [info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [info("y", output, shape)],
        [numpy_helper.from_array(np.array([9], np.int64), "k")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_an_operator_that_does_not_parse_is_one_sentence_with_its_node():
    node = helper.make_node("NonZero", ["x"], ["y"], "select")
    with pytest.raises(UnsupportedTargetError, match=r"node 'select' \(NonZero\)") as caught:
        build_engine(one_node(node, TensorProto.INT64, [4, "n"]), RTX, Precision.FP32)
    assert "\n" not in str(caught.value)


def test_an_operator_that_parses_and_has_no_kernel_is_one_sentence(capfd):
    info = helper.make_tensor_value_info
    node = helper.make_node("NonMaxSuppression", ["b", "s", "most"], ["y"], "nms")
    graph = helper.make_graph(
        [node],
        "g",
        [info("b", TensorProto.FLOAT, [1, 9, 4]), info("s", TensorProto.FLOAT, [1, 1, 9])],
        [info("y", TensorProto.INT64, ["n", 3])],
        [numpy_helper.from_array(np.array([5], np.int64), "most")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(UnsupportedTargetError, match="cannot build the graph") as caught:
        build_engine(model, RTX, Precision.FP32)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # TensorRT's own log goes nowhere else


@pytest.mark.parametrize(
    ("death", "told"),
    [("import os; os.abort()", "status -6"), ("raise ValueError('so')", "ValueError: so")],
)
def test_a_builder_that_dies_is_one_sentence(small_network, monkeypatch, death, told):
    monkeypatch.setattr(worker, "_WORKER", [sys.executable, "-c", death])
    with pytest.raises(UnsupportedTargetError, match=told) as caught:
        build_engine(small_network(), RTX, Precision.FP32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [((), (False, False)), ((86,), (True, False)), ((90,), (False, False)), ((89,), (True, True))],
)
def test_an_engine_runs_here_where_its_gpu_is(monkeypatch, capabilities, expected):
    monkeypatch.setattr(cuda_device, "compute_capabilities", lambda: capabilities)
    found = tuple(cuda_device.can_run(target) for target in (RTX, Target.parse("rtx-89")))
    assert found == expected
    assert cuda_device.can_run(Target.parse("cpu"))


class _AllocatingBuilder:
    """TensorRT-RTX's builder, which refuses engines that may not allocate."""

    def __init__(self, real, logger):
        self._real, self._logger = real, logger

    def __getattr__(self, name):
        return getattr(self._real, name)

    def build_serialized_network(self, network, config):
        import tensorrt_rtx as trt

        if config.get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION):
            self._logger.log(trt.ILogger.Severity.ERROR, "a layer allocates")
            return None
        return self._real.build_serialized_network(network, config)


def _ask_child(folder, model, package="tensorrt_rtx"):
    """Let the child's code build in this process; return its status and report."""
    onnx.save(lower_for(RTX, model, "pluginless").model, folder / "model.onnx")
    request = {"package": package, "form": "pluginless", "sms": [], "workspace": 0,
               "parent": os.getppid(), "timing_cache": "", "version_compatible": False,
               "strip_weights": False, "dla": None}  # fmt: skip
    (folder / "request.json").write_text(json.dumps(request))
    return worker_main.main(folder), json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("said", [(), ("out of memory",)])
def test_a_plan_that_does_not_load_again_is_no_engine(small_network, monkeypatch, tmp_path, said):
    """TensorRT-RTX's builder in full TensorRT's place, whose runtime then loads nothing."""
    trt = pytest.importorskip("tensorrt_rtx")

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, plan):
            assert len(bytes(plan)) > 1000
            for text in said:
                self.logger.log(trt.ILogger.Severity.ERROR, text)

    monkeypatch.setattr(worker_main, "require", lambda name, purpose: trt)
    monkeypatch.setattr(trt, "Runtime", Runtime)
    monkeypatch.setattr(trt, "__version__", "10.3.0")
    status, report = _ask_child(tmp_path, small_network("fp32"), "tensorrt")
    assert status == 1
    assert not (tmp_path / "engine.trt").exists()
    sentence = worker._failure(report["errors"], Target.parse("orin-nx"), "TensorRT")
    assert "it does not load the engine that it built" in sentence
    assert all(text in sentence for text in said)
    assert sentence.endswith("free memory on this machine, or report the model.")


def test_an_engine_that_has_to_allocate_is_built_and_says_so(small_network, monkeypatch, tmp_path):
    trt = pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(trt, "Builder", lambda logger, make=trt.Builder: _AllocatingBuilder(
        make(logger), logger))  # fmt: skip
    status, report = _ask_child(tmp_path, small_network("fp32"))
    assert status == 0
    assert report["user_allocation"] is False
    assert report["errors"] == []
    assert [m for m in report["messages"] if "no CUDA graph (a layer allocates)" in m[1]]
    assert (tmp_path / "engine.trt").stat().st_size > 1000
