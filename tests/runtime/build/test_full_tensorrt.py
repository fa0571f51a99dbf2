"""The builder for full TensorRT, with its child played: what it asks for, and what it makes of it.

No machine without a GPU has TensorRT's builder. The child is the same as TensorRT-RTX's, which
other tests run for real.
"""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.core import Precision, PrecisionError, Target, UnsupportedTargetError
from maskrt.runtime.build import BuildOptions, tensorrt, worker_main
from maskrt.runtime.build.worker import Built

ORIN = Target.parse("orin-nx")
LAYERS = ("body.first", "body.second", "head.up", "head.fc")


def _layer(name: str, kind: str) -> dict[str, Any]:
    inputs = [{"Format/Datatype": kind}]
    return {"LayerType": "CaskConvolution", "Inputs": inputs, "Metadata": f"[ONNX Layer: {name}]"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A Jetson with TensorRT 10.3; what the child is asked is noted, what it found can be set."""
    noted = SimpleNamespace(kinds=dict.fromkeys(LAYERS, "Int8 NC/32HW32"), version="10.3.0",
                            report={})  # fmt: skip

    def play(model: onnx.ModelProto, target: Target, request: dict, **more: Any) -> Built:
        noted.model, noted.request, noted.more = model, request, more
        layers = [_layer(name, kind) for name, kind in noted.kinds.items()]
        report = {"version": noted.version, "layers": layers, "peak_memory_bytes": 5,
                  "device_memory_bytes": 7, "messages": [["WARNING", "slow"]],
                  **noted.report}  # fmt: skip
        return Built(b"plan", report, 12.5, cached=False)

    monkeypatch.setattr(tensorrt, "build_in_child", play)
    monkeypatch.setattr(tensorrt, "compute_capabilities", lambda: (87,))
    monkeypatch.setattr(tensorrt, "gpu_names", lambda: ("Orin",))
    installed = SimpleNamespace(__version__="10.3.0")
    monkeypatch.setattr(tensorrt, "require", lambda name, purpose: installed)
    return noted


def test_the_engine_knows_itself(
    asked: SimpleNamespace, small_network: Callable[..., onnx.ModelProto]
) -> None:
    engine = tensorrt.build(small_network("int8"), ORIN, Precision.INT8)
    info = engine.info
    assert engine.files == {"engine.trt": b"plan"}
    assert json.loads(json.dumps(info)) == info
    assert (info["gpu"], info["sms"], info["backend_version"]) == ("Orin", [87], "10.3.0")
    assert info["layer_precisions"] == dict.fromkeys(LAYERS, "int8")
    assert (info["build_seconds"], info["cached"], info["form"]) == (12.5, False, "plugins")
    assert asked.request["workspace"] == 1664 << 20  # a quarter of what 8 GB leave
    assert asked.more["version"] == "10.3.0"


def test_options_arrive(
    asked: SimpleNamespace, small_network: Callable[..., onnx.ModelProto]
) -> None:
    options = BuildOptions(workspace_mib=9, strip_weights=True)
    engine = tensorrt.build(small_network("int8"), ORIN, Precision.INT8, options)
    assert asked.request["workspace"] == 9 << 20
    assert asked.more["options"] is options
    refit = onnx.load_model_from_string(engine.files["refit.onnx"])
    assert refit == asked.model  # weights under the names that the parser saw
    assert "OnnxParserRefitter" in engine.info["note"]
    with pytest.raises(UnsupportedTargetError, match=r"TensorRT 10\.3\.0 builds no int8 engine"):
        tensorrt.build(small_network("int8"), ORIN, Precision.INT8,
                       BuildOptions(dla=0, gpu_fallback=True))  # fmt: skip


def test_a_layer_that_came_back_wider_is_refused(
    asked: SimpleNamespace, small_network: Callable[..., onnx.ModelProto]
) -> None:
    asked.kinds["head.up"] = "FP32 NCHW"
    with pytest.raises(PrecisionError, match=r"head\.up \(ConvTranspose, int8 came back fp32\)"):
        tensorrt.build(small_network("int8"), ORIN, Precision.INT8)


def test_layers_that_the_inspector_does_not_name_are_counted(
    asked: SimpleNamespace, small_network: Callable[..., onnx.ModelProto]
) -> None:
    del asked.kinds["head.up"], asked.kinds["head.fc"]
    info = tensorrt.build(small_network("int8"), ORIN, Precision.INT8).info
    assert info["note"] == "The precision of 2 of 4 layers could not be read."
    options = BuildOptions(strip_weights=True)
    info = tensorrt.build(small_network("int8"), ORIN, Precision.INT8, options).info
    assert "2 of 4 layers could not be read. Without weights" in info["note"]


def test_only_the_chosen_layers_go_to_a_dla(
    asked: SimpleNamespace, small_network: Callable[..., onnx.ModelProto]
) -> None:
    asked.kinds = dict.fromkeys(LAYERS, "Half NCHW")
    asked.report["accelerated"] = ["body.first"]
    given = small_network("fp16"), ORIN, Precision.FP16, BuildOptions(dla=0, gpu_fallback=True)
    chosen = ("body.second", "body.first", "gone")
    info = tensorrt.build(*given, accelerated=chosen).info
    assert asked.request["accelerated"] == ["body.first", "body.second"]
    assert info["accelerated"] == ["body.first"]
    with pytest.raises(UnsupportedTargetError, match="takes none of the graph's layers"):
        tensorrt.build(*given)


def test_the_child_asks_the_dla_for_each_layer() -> None:
    layers = [SimpleNamespace(name=name) for name in ("first", "second", "third")]
    network = SimpleNamespace(num_layers=3, get_layer=layers.__getitem__)
    found: dict[str, str] = {}
    config = SimpleNamespace(
        can_run_on_DLA=lambda layer: layer.name != "second",
        set_device_type=lambda layer, kind: found.update({layer.name: kind}),
    )
    trt = SimpleNamespace(DeviceType=SimpleNamespace(DLA="DLA"))
    assert worker_main._accelerate(trt, config, network, {"first", "second"}) == ["first"]
    assert found == {"first": "DLA"}


def test_tensorrt_8_is_sent_to_trtexec(
    asked: SimpleNamespace, small_network: Callable[..., onnx.ModelProto], monkeypatch: Any
) -> None:
    old = SimpleNamespace(__version__="8.6.2")
    monkeypatch.setattr(tensorrt, "require", lambda name, purpose: old)
    with pytest.raises(UnsupportedTargetError, match=r"8\.6\.2 .* with trtexec"):
        tensorrt.build(small_network("fp32"), ORIN, Precision.FP32)


def _with_nms() -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    nms = {"iou_threshold": 0.5, "score_threshold": 0.1, "max_outputs": 5, "class_agnostic": 0}
    nodes = [helper.make_node("BatchedNMS", ["boxes", "scores", "labels"], list("bslin"), "nms",
                              domain="maskrt", **nms)]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g",
        [info("boxes", TensorProto.FLOAT, [1, 9, 4]), info("scores", TensorProto.FLOAT, [1, 9])],
        [info("s", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(np.zeros((1, 9), np.int32), "labels")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("maskrt", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize(
    ("version", "form", "nodes"), [("10.3.0", "plugins", 1), ("10.16.1", "aot", 3)]
)
def test_operators_become_the_plugins_of_the_version(
    asked: SimpleNamespace, monkeypatch: Any, version: str, form: str, nodes: int
) -> None:
    installed = SimpleNamespace(__version__=version)
    monkeypatch.setattr(tensorrt, "require", lambda name, purpose: installed)
    asked.kinds = {}
    engine = tensorrt.build(_with_nms(), ORIN, Precision.FP32)
    assert asked.request["form"] == engine.info["form"] == form
    assert [node.domain for node in asked.model.graph.node] == ["maskrt"] * nodes
    assert engine.info["operators"] == ["BatchedNMS"]
