"""The graphs that TensorRT parses: plugin nodes, and chains of one kernel a node."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from maskrt.core import UnsupportedModelError, UnsupportedTargetError
from maskrt.plugins import OPERATORS, attach_functions
from maskrt.plugins.adapters.field_numbers import numbers_of
from maskrt.plugins.adapters.tensorrt_nodes import lower_to_aot, lower_to_plugins
from maskrt.plugins.launch import Tensor

from .cases import CASES, Case, ident


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}


def _fields(name: str, case: Case) -> list[str]:
    """Return the names of the fields of an attribute: one a number, four for a text."""
    value = case.attributes[name]
    if isinstance(value, (int, float)):
        return [name]
    return [f"{name}_{i}" for i in range(4 if isinstance(value, str) else len(value))]


def _nms() -> tuple[Case, onnx.ModelProto]:
    case = next(c for c in CASES if c.operator == "BatchedNMS")
    return case, case.model(case.inputs())


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} == set(OPERATORS)


@pytest.mark.parametrize("case", CASES, ids=ident)
def test_plugin_nodes_state_all_attributes(case: Case) -> None:
    lowered = lower_to_plugins(attach_functions(case.model(case.inputs())))
    (node,) = lowered.graph.node
    schema = OPERATORS[case.operator].schema
    found = _attributes(node)
    assert found.pop("plugin_namespace") == node.domain == "maskrt"
    assert found.pop("plugin_version") == str(schema.version)
    assert {*found} == {name for a in schema.attributes for name in _fields(a.name, case)}
    assert all(isinstance(value, (int, float)) for value in found.values())
    assert node.op_type == schema.name
    assert node.overload == ""
    assert not lowered.functions


@pytest.mark.parametrize("case", CASES, ids=ident)
def test_a_chain_passes_every_tensor_on(case: Case) -> None:
    """Each tensor is written once, and before it is read; ends keep their names."""
    inputs = case.inputs()
    model = case.model(inputs)
    lowered = lower_to_aot(attach_functions(model), 87)
    known = {info.name for info in lowered.graph.input}
    tensors = [Tensor(value.shape, str(value.dtype)) for value in inputs]
    plan = OPERATORS[case.operator].launch(case.attributes, tensors)
    for node, stage in zip(lowered.graph.node, plan.stages, strict=True):
        assert (len(node.input), len(node.output)) == (len(stage.inputs), len(stage.outputs))
        assert {*node.input} <= known
        assert not {*node.output} & known
        known |= {*node.output}
        assert _attributes(node)["plan_sm"] == 87
    assert {info.name for info in model.graph.output} <= known
    assert not lowered.functions


def test_a_text_is_its_bytes_in_four_words() -> None:
    case = next(c for c in CASES if c.operator == "SoftNMS")
    (node,) = lower_to_plugins(case.model(case.inputs())).graph.node
    words = [_attributes(node)[f"method_{i}"] for i in range(4)]
    assert np.array(words, "<i4").tobytes() == b"gaussian".ljust(16, b"\0")


@pytest.mark.parametrize(
    ("value", "words"),
    [("x" * 17, "at most 16 bytes"), ("a\0b", "none of them zero"), ((0.5,) * 17, "at most 16")],
)
def test_attributes_that_no_fields_hold(value: Any, words: str) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        numbers_of({"name": value})


def test_batched_nms_is_three_kernels() -> None:
    _, model = _nms()
    rank, overlap, select = lower_to_aot(model).graph.node
    assert [n.op_type for n in (rank, overlap, select)] == [
        "BatchedNMS_nms_rank_1to2of3", "BatchedNMS_nms_overlap_4to1of3",
        "BatchedNMS_nms_select_6to5of3",
    ]  # fmt: skip
    assert list(overlap.input) == ["x0", "x2", *rank.output]
    assert list(select.input) == ["x0", "x1", "x2", *rank.output, *overlap.output]
    assert list(select.output) == ["y0", "y1", "y2", "y3", "y4"]
    found = _attributes(overlap)
    assert [found[f"plan_dims_{i}"] for i in range(7)] == [3, 70, 4, 3, 70, 3, 70]
    kinds = [onnx.TensorProto.FLOAT] * 2 + [onnx.TensorProto.INT32]
    assert [found[f"plan_types_{i}"] for i in range(3)] == kinds
    assert {"plan_dims_7", "plan_types_3"}.isdisjoint(found)
    assert (found["plan_stage"], found["plan_sm"], found["aot"]) == (1, 0, 1)


def test_outputs_that_nobody_reads_get_a_name() -> None:
    _, model = _nms()
    node = model.graph.node[0]
    del node.output[3:]
    node.output[1] = ""
    del model.graph.output[:]
    model.graph.output.append(helper.make_empty_tensor_value_info("y0"))
    last = lower_to_aot(model).graph.node[-1]
    assert len({*last.output}) == 5
    assert "" not in last.output
    assert (last.output[0], last.output[2]) == ("y0", "y2")


def test_two_nodes_of_one_operator_share_no_tensor() -> None:
    _, model = _nms()
    twin = model.graph.node.add()
    twin.CopyFrom(model.graph.node[0])
    twin.output[:] = [f"z{i}" for i in range(5)]
    nodes = lower_to_aot(model).graph.node
    written = [name for node in nodes for name in node.output]
    assert len(written) == len({*written}) == 16


def test_other_nodes_stay_where_they_are() -> None:
    _, model = _nms()
    model.graph.node.insert(0, helper.make_node("Identity", ["x0"], ["before"], name="first"))
    model.graph.node.append(helper.make_node("Identity", ["y0"], ["after"], name="last"))
    names = [node.op_type for node in lower_to_aot(model).graph.node]
    assert names[0] == names[-1] == "Identity"
    assert len(names) == 5


def test_the_model_given_is_not_changed() -> None:
    _, model = _nms()
    before = model.SerializeToString()
    lower_to_aot(model)
    lower_to_plugins(model)
    assert model.SerializeToString() == before


def test_a_size_that_a_kernel_must_know() -> None:
    case = next(c for c in CASES if c.operator == "PasteMasks")
    model = case.model(case.inputs())
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "side"
    with pytest.raises(UnsupportedTargetError, match="fixed sizes"):
        lower_to_aot(model)


def test_an_input_without_a_shape() -> None:
    _, model = _nms()
    model.graph.input[1].type.tensor_type.ClearField("shape")
    with pytest.raises(UnsupportedModelError, match=r"'x1'.*no shape"):
        lower_to_aot(model)


def test_an_input_of_a_type_that_the_operator_does_not_take() -> None:
    _, model = _nms()
    model.graph.input[2].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with pytest.raises(UnsupportedModelError, match=r"'x2'.* is INT64, and BatchedNMS takes INT32"):
        lower_to_aot(model)


@pytest.mark.parametrize("lower", [lower_to_aot, lower_to_plugins])
def test_an_unknown_operator(lower: Any) -> None:
    _, model = _nms()
    model.graph.node[0].op_type = "Polish"
    with pytest.raises(UnsupportedModelError, match="maskrt::Polish"):
        lower(model)
