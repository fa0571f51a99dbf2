import pytest
from onnx import helper

from maskrt.core import TARGETS, Precision, Target, UnsupportedModelError, UnsupportedTargetError
from maskrt.runtime.build import build_engine
from maskrt.runtime.build.engine import precision_info
from maskrt.runtime.build.lowered import lower_for
from maskrt.runtime.cuda_device import compute_capabilities

NEED_TENSORRT = [name for name, target in TARGETS.items() if target.backend == "tensorrt"]


@pytest.mark.parametrize("name", NEED_TENSORRT)
def test_targets_of_full_tensorrt_are_refused_with_the_way_out(small_network, name):
    with pytest.raises(UnsupportedTargetError, match=f"^target {name} .*(cpu or rtx|there)"):
        build_engine(small_network(), Target.parse(name), Precision.FP32)


def test_an_unknown_maskrt_node_never_reaches_a_backend(small_network):
    model = small_network()
    model.opset_import.append(helper.make_opsetid("maskrt", 1))
    model.graph.node.append(helper.make_node("Mystery", ["row"], ["z"], "m", domain="maskrt"))
    with pytest.raises(UnsupportedModelError, match="Mystery"):
        lower_for(Target.parse("rtx"), model, "pluginless")


@pytest.mark.parametrize("target", ["cpu", "rtx"])
def test_a_node_of_another_domain_is_named(small_network, target):
    model = small_network()
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node.append(helper.make_node("Odd", ["row"], ["z"], domain="com.example"))
    with pytest.raises(UnsupportedTargetError, match=r"com\.example::Odd"):
        lower_for(Target.parse(target), model, "function")


def test_a_node_of_another_domain_is_found_inside_a_loop(small_network):
    model = small_network()
    inner = helper.make_graph([helper.make_node("Odd", [], ["v"], domain="com.x")], "b", [], [])
    model.graph.node.append(helper.make_node("If", ["row"], [], then_branch=inner))
    with pytest.raises(UnsupportedTargetError, match=r"com\.x::Odd"):
        lower_for(Target.parse("cpu"), model, "function")


def test_info_counts_what_is_known_and_what_is_not():
    found = {"a": Precision.INT8, "b": Precision.FP32, "c": None, "d": Precision.FP16}
    assert precision_info(found, Precision.FP16) == {
        "precision": "fp16",
        "layers": {"int8": 1, "fp16": 1, "fp32": 1, "unknown": 1},
        "layer_precisions": {"a": "int8", "b": "fp32", "c": "unknown", "d": "fp16"},
        "wider": ["b"],
    }


def test_compute_capabilities_are_asked_without_a_cuda_package():
    assert all(50 <= capability <= 130 for capability in compute_capabilities())
