"""The ahead-of-time plugins under TensorRT's own `plugin` package; run by `test_tensorrt.py`."""

import dataclasses
import re
from typing import Any

import numpy as np
import onnx
import pytest

from maskrt.core import UnsupportedModelError, UnsupportedTargetError
from maskrt.plugins import OPERATORS
from maskrt.plugins.adapters.host import KernelFaultError
from maskrt.plugins.adapters.nvrtc import compile_plan
from maskrt.plugins.adapters.tensorrt_aot import engine_entry, register_aot_plugins
from maskrt.plugins.adapters.tensorrt_nodes import lower_to_aot
from maskrt.plugins.launch import LaunchPlan, Tensor

from .aot_build import Engine
from .cases import CASES, Case, ident
from .expressions import Expression
from .fake_cuda import fake_cuda
from .memory import Device, Host
from .registry import trt, trtp

SM = 75
TEXTS = ("plugin_version", "plugin_namespace")  # read by the parser, in C++


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


WHERE = [
    pytest.param(Host(), id="host"),
    pytest.param(
        Device(),
        id="device",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not _has_gpu(), reason="no CUDA device")],
    ),
]


def _plan(case: Case, inputs: list[np.ndarray]) -> LaunchPlan:
    tensors = [Tensor(value.shape, str(value.dtype)) for value in inputs]
    return OPERATORS[case.operator].launch(case.attributes, tensors)


def _engine(case: Case, inputs: list[np.ndarray], static: bool) -> Engine:
    lowered = lower_to_aot(case.model(inputs, static=static), SM)
    register_aot_plugins(lowered, trt)
    return Engine(lowered, [value.shape for value in inputs])


def _renamed(ptx: str, entry: str, name: str) -> str:
    """Return PTX with another name of a kernel, its parameters and what lies in its scope."""
    scopes = ptx.replace(f"_ZZ{len(entry)}{entry}E", f"_ZZ{len(name)}{name}E")
    return re.sub(rf"\b{entry}(?=\b|_param_)", name, scopes)


def _launch_plans(case: Case, **changes: Any) -> LaunchPlan:
    tensors = [Tensor(value.shape, str(value.dtype)) for value in case.inputs()]
    return OPERATORS[case.operator].launch({**case.attributes, **changes}, tensors)


def test_kernels_of_an_engine_have_short_names_of_their_own() -> None:
    """TensorRT before 10.14 keeps 15 characters; two nodes of one operator are two kernels."""
    plans = [_launch_plans(case) for case in CASES]
    nms = next(case for case in CASES if case.operator == "BatchedNMS")
    plans.append(_launch_plans(nms, iou_threshold=0.123))
    names = [engine_entry(plan, stage) for plan in plans for stage in plan.stages]
    stages = {(str(p.source), s.entry, *sorted(p.defines.items())) for p in plans for s in p.stages}
    assert len(set(names)) == len(stages) > len(CASES)
    assert all(re.fullmatch(r"[a-z_]\w{0,14}", name) for name in names), names


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
@pytest.mark.parametrize("case", CASES, ids=ident)
def test_what_tensorrt_is_told_computes_the_operator(case: Case, static: bool, where: Any) -> None:
    inputs = case.inputs()
    engine, plan = _engine(case, inputs, static), _plan(case, inputs)
    expected = compile_plan(plan, SM).code.decode()
    for kernel, stage in zip(engine.kernels, plan.stages, strict=True):
        assert kernel.entry == engine_entry(plan, stage)
        assert kernel.ptx.decode() == _renamed(expected, stage.entry, kernel.entry)
    case.assert_close(engine.run(inputs, plan, where), inputs)


@pytest.mark.parametrize("case", [c for c in CASES if c.dynamic], ids=ident)
def test_one_engine_serves_other_sizes(case: Case) -> None:
    """Grid and extras are expressions of the dimensions that the graph leaves open."""
    inputs = case.inputs()
    engine = _engine(case, inputs, static=False)
    for fewer in ([value[:1] for value in inputs], *(case.shortened(inputs, n) for n in (33, 1))):
        case.assert_close(engine.run(fewer, _plan(case, fewer)), fewer)


@pytest.mark.parametrize("case", [c for c in CASES if {"K", "N"} & {*c.dynamic}], ids=ident)
def test_no_candidates(case: Case) -> None:
    """A grid is at least one block, which then has nothing to do."""
    inputs = case.inputs()
    engine, none = _engine(case, inputs, static=False), case.shortened(inputs, 0)
    found = engine.run(none, _plan(case, none))
    assert all(value.size == 0 or not value.any() for value in found)


@pytest.mark.parametrize("case", CASES, ids=ident)
def test_every_field_is_one_number(case: Case) -> None:
    """The bindings of 10.0 to 10.15 with NumPy 2 read more as the first, again and again."""
    for node in lower_to_aot(case.model(case.inputs()), SM).graph.node:
        kinds = {a.type for a in node.attribute if a.name not in TEXTS}
        assert kinds <= {onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT}


@pytest.mark.parametrize("case", CASES, ids=ident)
def test_plugins_are_found_by_name_version_and_namespace(case: Case) -> None:
    lowered = lower_to_aot(case.model(case.inputs()), SM)
    names = register_aot_plugins(lowered, trt)
    assert names == register_aot_plugins(lowered, trt)
    registry = trt.get_plugin_registry()
    for name in names:
        assert registry.get_creator(name, "1", "maskrt").name == name
        assert registry.get_creator(name, "2", "maskrt") is None
        assert registry.get_creator(name, "1", "") is None
        assert hasattr(trtp.op.maskrt, name)


def _nms() -> tuple[Case, list[np.ndarray]]:
    case = next(c for c in CASES if c.operator == "BatchedNMS")
    return case, case.inputs()


@pytest.mark.parametrize(
    "change",
    [
        lambda kernel: {"inputs": kernel.inputs[::-1]},
        lambda kernel: {"outputs": kernel.outputs[::-1]},
        lambda kernel: {"extras": kernel.extras * 2},
        lambda kernel: {"extras": ()},
        lambda kernel: {"entry": "nms_nothing"},
    ],
)
def test_the_harness_refuses_another_call(change: Any) -> None:
    """Wrong order, count or name of arguments is no equal result."""
    case, inputs = _nms()
    engine = _engine(case, inputs, static=False)
    engine.kernels[-1] = dataclasses.replace(engine.kernels[-1], **change(engine.kernels[-1]))
    with pytest.raises((AssertionError, KernelFaultError)):
        case.assert_close(engine.run(inputs, _plan(case, inputs)), inputs)


@pytest.mark.parametrize(
    ("operator", "place", "axis"),
    [
        ("MultilevelRoIAlign", 0, "grid_x"),
        ("MultilevelRoIAlign", 0, "grid_z"),
        ("BatchedNMS", 1, "grid_y"),
        ("BatchedNMS", 1, "grid_z"),
        ("BatchedNMS", 2, "grid_x"),
    ],
)
def test_the_harness_refuses_another_grid(operator: str, place: int, axis: str) -> None:
    case = [c for c in CASES if c.operator == operator][1]
    inputs = case.inputs()
    engine = _engine(case, inputs, static=True)
    kernel = engine.kernels[place]
    assert kernel.launch[axis].value({}) > 1
    fewer = {**kernel.launch, axis: Expression("constant", 1)}
    engine.kernels[place] = dataclasses.replace(kernel, launch=fewer)
    with pytest.raises(AssertionError):
        case.assert_close(engine.run(inputs, _plan(case, inputs)), inputs)


def test_without_a_compute_capability_the_builders_device_counts() -> None:
    case, inputs = _nms()
    lowered = lower_to_aot(case.model(inputs))
    register_aot_plugins(lowered, trt)
    with fake_cuda(_plan(case, inputs)):
        engine = Engine(lowered, [value.shape for value in inputs])
    assert all(b".target sm_87" in kernel.ptx for kernel in engine.kernels)


def test_another_type_than_lowered_is_refused() -> None:
    case, inputs = _nms()
    lowered = lower_to_aot(case.model(inputs), SM)
    register_aot_plugins(lowered, trt)
    lowered.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    with pytest.raises(UnsupportedModelError, match="lower the graph that is built"):
        Engine(lowered, [value.shape for value in inputs])


def test_another_size_than_lowered_is_refused() -> None:
    case, inputs = _nms()
    lowered = lower_to_aot(case.model(inputs), SM)
    register_aot_plugins(lowered, trt)
    with pytest.raises(UnsupportedModelError, match="lower the graph that is built"):
        Engine(lowered, [value[:, :7].shape for value in inputs])


def test_a_node_with_other_fields_than_one_of_its_name_is_refused() -> None:
    case, inputs = _nms()
    lowered = lower_to_aot(case.model(inputs), SM)
    register_aot_plugins(lowered, trt)
    lowered.graph.node[1].attribute.append(onnx.helper.make_attribute("another", 1))
    with pytest.raises(UnsupportedModelError, match="other fields than a node of the plugin"):
        register_aot_plugins(lowered, trt)


def test_a_graph_that_is_not_lowered_is_refused() -> None:
    case, inputs = _nms()
    with pytest.raises(UnsupportedModelError, match="lower_to_aot"):
        register_aot_plugins(case.model(inputs), trt)


def test_old_tensorrt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    case, inputs = _nms()
    monkeypatch.setattr(trt, "__version__", "10.8.0.43")
    with pytest.raises(UnsupportedTargetError, match=r"10\.9 or later"):
        register_aot_plugins(lower_to_aot(case.model(inputs)), trt)
