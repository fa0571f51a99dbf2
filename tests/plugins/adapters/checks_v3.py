"""The `IPluginV3` plugins in TensorRT's own registry; run by `test_tensorrt.py`."""

import gc
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from maskrt.core import MissingDependencyError, UnsupportedModelError, UnsupportedTargetError
from maskrt.plugins import OPERATORS
from maskrt.plugins.adapters.tensorrt_fields import data_type
from maskrt.plugins.adapters.tensorrt_nodes import lower_to_plugins
from maskrt.plugins.adapters.tensorrt_v3 import register_plugins
from maskrt.plugins.launch import LaunchPlan, Tensor

from .cases import CASES, Case, ident
from .expressions import Builder, dims_of
from .fake_cuda import fake_cuda
from .memory import HostBuffer
from .registry import TensorFormat, describe, describe_dynamic, parsed_fields, trt

BUILD, RUNTIME = trt.TensorRTPhase.BUILD, trt.TensorRTPhase.RUNTIME


def _creator(name: str) -> Any:
    register_plugins(trt)
    version = str(OPERATORS[name].schema.version)
    return trt.get_plugin_registry().get_creator(name, version, "maskrt")


def _plugin(case: Case) -> Any:
    """Create the plugin as TensorRT's parser does, from a node of the lowered graph."""
    (node,) = lower_to_plugins(case.model(case.inputs())).graph.node
    creator = _creator(node.op_type)
    return creator.create_plugin(node.name, parsed_fields(node, creator), BUILD)


def _plan(case: Case, inputs: list[np.ndarray]) -> LaunchPlan:
    tensors = [Tensor(value.shape, str(value.dtype)) for value in inputs]
    return OPERATORS[case.operator].launch(case.attributes, tensors)


def _kinds(dtypes: list[str]) -> list[Any]:
    return [data_type(trt, dtype) for dtype in dtypes]


def _input_kinds(inputs: list[np.ndarray]) -> list[Any]:
    return _kinds([str(value.dtype) for value in inputs])


def test_registering_again_changes_nothing() -> None:
    assert register_plugins(trt) is register_plugins(trt)


@pytest.mark.parametrize("name", OPERATORS)
def test_creators_are_found_by_name_version_and_namespace(name: str) -> None:
    creator = _creator(name)
    schema = OPERATORS[name].schema
    assert (creator.name, creator.plugin_version, creator.plugin_namespace) == (
        name, str(schema.version), "maskrt",
    )  # fmt: skip
    found = {field.name: field.type.name for field in creator.field_names}
    for attribute in schema.attributes:
        if attribute.kind is tuple:
            names, kind = [f"{attribute.name}_{i}" for i in range(16)], "FLOAT32"
        elif attribute.kind is str:
            names, kind = [f"{attribute.name}_{i}" for i in range(4)], "INT32"
        else:
            names, kind = [attribute.name], {int: "INT32", float: "FLOAT32"}[attribute.kind]
        assert [found.pop(name) for name in names] == [kind] * len(names)
    assert not found
    registry = trt.get_plugin_registry()
    assert registry.get_creator(name, str(schema.version + 1), "maskrt") is None
    assert registry.get_creator(name, str(schema.version), "") is None


@pytest.mark.parametrize("case", CASES, ids=ident)
def test_fields_are_read_serialised_and_restored(case: Case) -> None:
    plugin = _plugin(case)
    rounded = {
        k: tuple(float(np.float32(x)) for x in v) if isinstance(v, tuple)
        else float(np.float32(v)) if isinstance(v, float) else v
        for k, v in case.attributes.items()
    }  # fmt: skip
    assert plugin.attributes == rounded
    for _ in range(3):
        fields = plugin.get_fields_to_serialize()
        assert all(np.asarray(field.data).size == 1 for field in fields)
        plugin = _creator(case.operator).create_plugin("again", fields, RUNTIME)
        assert plugin.attributes == rounded
    assert plugin.clone().attributes == rounded
    assert plugin.attach_to_context(None) is not plugin
    assert plugin.plugin_name == case.operator
    assert plugin.plugin_namespace == "maskrt"
    assert plugin.num_outputs == len(OPERATORS[case.operator].schema.outputs)


def test_plugins_come_and_go() -> None:
    """With the bindings of 10.0 to 10.3, the second thing that is made after them would crash."""
    plugin = _plugin(next(c for c in CASES if c.operator == "BatchedNMS"))
    for _ in range(300):
        assert plugin.clone().attach_to_context(None).attributes == plugin.attributes
        assert len([str(number) * 5 for number in range(200)]) == 200
    gc.collect()


def test_fields_left_out_get_their_defaults() -> None:
    case = next(c for c in CASES if c.operator == "MultilevelRoIAlign")
    (node,) = lower_to_plugins(case.model(case.inputs())).graph.node
    kept = [a for a in node.attribute if a.name != "feature_scale"]
    del node.attribute[:]
    node.attribute.extend(kept)
    creator = _creator(node.op_type)
    plugin = creator.create_plugin("", parsed_fields(node, creator), BUILD)
    assert plugin.attributes["feature_scale"] == 1.0


@pytest.mark.parametrize("name", ["max_outputs", "iou_threshold"])
def test_fields_outside_the_schema_are_refused(name: str) -> None:
    case = next(c for c in CASES if c.operator == "BatchedNMS")
    (node,) = lower_to_plugins(case.model(case.inputs())).graph.node
    creator = _creator(node.op_type)
    for attribute in node.attribute:
        if attribute.name == name:
            attribute.CopyFrom(onnx.helper.make_attribute(name, -1 if name[0] == "m" else -0.5))
    with pytest.raises(UnsupportedModelError, match=name):
        creator.create_plugin("", parsed_fields(node, creator), BUILD)


@pytest.mark.parametrize(
    ("case", "name", "value", "words"),
    [
        ("MultilevelRoIAlign", "mode", [0x6E696D, 0, 0, 0], "mode .* is 'min'"),
        ("MultilevelRoIAlign", "spatial_scales", [None, 0.5], "spatial_scales"),
        ("Preprocess", "mean", [1.0, 2.0], "mean"),
        ("Preprocess", "mean", [1.0, None, 2.0], "mean"),
        ("Preprocess", "height", [[1, 2]], "height .* 2 elements"),
    ],
)
def test_wrong_numbers_are_refused(case: str, name: str, value: list[Any], words: str) -> None:
    (node,) = lower_to_plugins(
        (found := next(c for c in CASES if c.operator == case)).model(found.inputs())
    ).graph.node
    creator = _creator(case)
    kept = [a for a in node.attribute if a.name.rpartition("_")[0] != name and a.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    for place, number in enumerate(value):
        if number is not None:
            full = name if isinstance(number, list) else f"{name}_{place}"
            node.attribute.append(onnx.helper.make_attribute(full, number))
    with pytest.raises(UnsupportedModelError, match=words):
        creator.create_plugin("", parsed_fields(node, creator), BUILD)


def test_a_tensorrt_that_misreads_fields_is_refused() -> None:
    """As 10.0 to 10.15 do with NumPy 2, where a field has more than one element."""

    class Misread(trt.PluginField):
        data = np.array([0.0], np.float32)

    other: Any = ModuleType("tensorrt")
    other.__version__, other.PluginField = "10.99", Misread
    other.PluginFieldType, other.PluginFieldCollection = trt.PluginFieldType, list
    with pytest.raises(UnsupportedTargetError, match=r"10\.99 with NumPy .*\[1\.5\] as \[0\.0\]"):
        register_plugins(other)


def test_a_missing_field_is_refused() -> None:
    creator = _creator("BatchedNMS")
    with pytest.raises(UnsupportedModelError, match="iou_threshold"):
        creator.create_plugin("", trt.PluginFieldCollection([]), BUILD)


@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
@pytest.mark.parametrize("case", CASES, ids=ident)
def test_shapes_and_types_of_outputs(case: Case, static: bool) -> None:
    inputs, plugin = case.inputs(), _plugin(case)
    plan = _plan(case, inputs)
    outputs = [plan.tensors[name] for name in plan.outputs]
    types = plugin.get_output_data_types(_input_kinds(inputs))
    assert types == _kinds([tensor.dtype for tensor in outputs])
    graph = case.model(inputs, static=static).graph
    shapes, sizes = [], {}
    for info, value in zip(graph.input, inputs, strict=True):
        dynamic = tuple(not d.HasField("dim_value") for d in info.type.tensor_type.shape.dim)
        shapes.append(dims_of(info.name, value.shape, dynamic))
        sizes |= {f"{info.name}.{axis}": extent for axis, extent in enumerate(value.shape)}
    found = plugin.clone().get_output_shapes(shapes, [], Builder())
    assert [tuple(e.value(sizes) for e in dims) for dims in found] == [t.shape for t in outputs]
    assert all(e.is_constant() for dims in found for e in dims) or not static


@pytest.mark.parametrize("case", CASES, ids=ident)
def test_formats(case: Case) -> None:
    """The plan's own types in linear layout, and nothing else at any place."""
    inputs, plugin = case.inputs(), _plugin(case)
    plan = _plan(case, inputs)
    tensors = [plan.tensors[name] for name in (*plan.inputs, *plan.outputs)]
    kinds = _kinds([tensor.dtype for tensor in tensors])
    right = [describe_dynamic(t.shape, t.shape, k) for t, k in zip(tensors, kinds, strict=True)]
    for place, (tensor, kind) in enumerate(zip(tensors, kinds, strict=True)):
        assert plugin.supports_format_combination(place, right, len(inputs))
        packed = describe_dynamic(tensor.shape, tensor.shape, kind, format=TensorFormat.CHW4)
        changed = [*right[:place], packed, *right[place + 1 :]]
        assert not plugin.supports_format_combination(place, changed, len(inputs))
        other = trt.DataType.BOOL
        changed = [*right[:place], describe_dynamic(tensor.shape, tensor.shape, other)]
        assert not plugin.supports_format_combination(place, changed, len(inputs))


def test_levels_are_of_one_type() -> None:
    case = next(c for c in CASES if c.operator == "MultilevelRoIAlign")
    inputs, plugin = case.inputs(), _plugin(case)
    kinds = _kinds(["float32", "float16", "float16", "float32"])
    descs = [describe_dynamic(v.shape, v.shape, k) for v, k in zip(inputs, kinds, strict=True)]
    found = [plugin.supports_format_combination(i, descs, 4) for i in range(4)]
    assert found == [True, True, True, False]


def _workspace(plan: LaunchPlan) -> int:
    """What the scratch tensors take, each in whole units of 256 bytes."""
    sizes = [
        int(np.prod(plan.tensors[name].shape)) * np.dtype(plan.tensors[name].dtype).itemsize
        for name in plan.scratch
    ]
    return sum(-(-size // 256) * 256 for size in sizes)


@pytest.mark.parametrize("case", CASES, ids=ident)
def test_workspace_fits_the_largest_shapes(case: Case) -> None:
    inputs, plugin = case.inputs(), _plugin(case)
    symbols = [[-1 if not axis and case.dynamic else e for axis, e in enumerate(v.shape)]
               for v in inputs]  # fmt: skip
    descs = [
        describe_dynamic(shape, value.shape, kind)
        for shape, value, kind in zip(symbols, inputs, _input_kinds(inputs), strict=True)
    ]
    assert plugin.get_workspace_size(descs, []) == _workspace(_plan(case, inputs))


def test_workspace_of_batched_nms() -> None:
    case = next(c for c in CASES if c.operator == "BatchedNMS")
    shapes = [(2, 1000, 4), (2, 1000), (2, 1000)]
    kinds = _kinds(["float32", "float32", "int32"])
    descs = [describe_dynamic(s, s, k) for s, k in zip(shapes, kinds, strict=True)]
    order, valid, bits = 8192, 256, 2 * 1000 * 32 * 4
    assert _plugin(case).get_workspace_size(descs, []) == order + valid + bits


def _enqueue(case: Case, inputs: list[np.ndarray], swap: bool = False) -> list[np.ndarray]:
    """Run the plugin with a driver that runs the kernels on the host.

    The second time that shapes are those announced, it launches and does no more.
    """
    plan = _plan(case, inputs)
    tensors = {name: plan.tensors[name] for name in (*plan.inputs, *plan.outputs)}
    buffers = {name: HostBuffer(t.shape, t.dtype) for name, t in tensors.items()}
    descs = {name: describe(t.shape, data_type(trt, t.dtype)) for name, t in tensors.items()}
    for name, value in zip(plan.inputs, inputs, strict=True):
        buffers[name].write(value)
    into, out = [descs[n] for n in plan.inputs], [descs[n] for n in plan.outputs]
    workspace = HostBuffer((_workspace(plan),), "uint8")
    addresses = [buffers[n].address for n in plan.inputs]
    with fake_cuda(plan) as driver:
        plugin = _plugin(case).attach_to_context(None)
        plugin.on_shape_change(into, out)
        driver.calls.clear()
        plugin.enqueue(
            into, out, addresses[::-1] if swap else addresses,
            [buffers[n].address for n in plan.outputs], workspace.address, 4321,
        )  # fmt: skip
    assert driver.calls == ["cuLaunchKernel"] * len(plan.working_stages)
    assert {*driver.streams} <= {4321}
    workspace.read()
    return [buffers[name].read() for name in plan.outputs]


@pytest.mark.parametrize("case", CASES, ids=ident)
def test_enqueue_computes_the_operator(case: Case) -> None:
    inputs = case.inputs()
    case.assert_close(_enqueue(case, inputs), inputs)


@pytest.mark.parametrize("case", [c for c in CASES if "B" in c.dynamic], ids=ident)
def test_an_empty_batch(case: Case) -> None:
    """Nothing is launched: a grid is never empty, and its first block would write beside."""
    none = [value[:0] for value in case.inputs()]
    assert all(value.size == 0 for value in _enqueue(case, none))


def test_inputs_in_another_order_are_seen() -> None:
    case = next(c for c in CASES if c.operator == "BatchedNMS")
    inputs = case.inputs()
    with pytest.raises(AssertionError):
        case.assert_close(_enqueue(case, inputs, swap=True), inputs)


def test_a_type_that_no_kernel_takes() -> None:
    plugin = _plugin(next(c for c in CASES if c.operator == "BatchedNMS"))
    with pytest.raises(UnsupportedModelError, match="BOOL"):
        plugin.get_output_data_types([trt.DataType.BOOL] * 3)


def test_old_tensorrt_is_refused() -> None:
    old: Any = SimpleNamespace(__version__="8.6.1")
    with pytest.raises(UnsupportedTargetError, match=r"TensorRT 10\.0 or later .* 8\.6\.1"):
        register_plugins(old)


def test_without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match="pip install 'tensorrt'"):
        register_plugins()
