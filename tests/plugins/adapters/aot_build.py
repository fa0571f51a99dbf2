"""What TensorRT does with a graph of ahead-of-time plugins: parse, build, run.

Each node's plugin is looked up, created from the node's attributes, and asked what TensorRT's
builder asks, in its order; what it answers is all that is kept. At run time the expressions are
evaluated for the shapes at hand, and the kernel is called with the inputs, the int32 extras and the
outputs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from maskrt.plugins.adapters.tensorrt_fields import data_type, dtype_name
from maskrt.plugins.launch import LaunchPlan

from .expressions import Builder, Dims, Expression, dims_of
from .memory import Host, Launch
from .registry import describe, describe_dynamic, parsed_fields, trt

_GRID = ("grid_x", "grid_y", "grid_z")
_BLOCK = ("block_x", "block_y", "block_z")


@dataclass(frozen=True)
class BuiltTensor:
    shape: Dims
    kind: Any

    def extents(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(extent.value(sizes) for extent in self.shape)


@dataclass(frozen=True)
class BuiltKernel:
    """A layer of the engine: one kernel, and the expressions that tell how to launch it."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    entry: str
    ptx: bytes
    launch: Mapping[str, Expression]
    extras: tuple[Expression, ...]


class Extras:
    """As `tensorrt.ISymExprs`."""

    def __init__(self) -> None:
        self.nbSymExprs = 0
        self.found: dict[int, Any] = {}

    def __setitem__(self, index: int, value: Any) -> None:
        assert value.type == trt.PluginArgType.INT
        assert value.dtype == trt.PluginArgDataType.INT32
        self.found[index] = value.expr

    def all(self) -> tuple[Expression, ...]:
        assert sorted(self.found) == list(range(self.nbSymExprs))
        return tuple(self.found[index] for index in range(self.nbSymExprs))


class Engine:
    """A graph whose nodes are all ahead-of-time plugins, built."""

    def __init__(self, model: onnx.ModelProto, largest: Sequence[Sequence[int]]) -> None:
        self.inputs = [info.name for info in model.graph.input]
        self.outputs = [info.name for info in model.graph.output]
        self.tensors: dict[str, BuiltTensor] = {}
        self.limits: dict[str, int] = {}
        for info, most in zip(model.graph.input, largest, strict=True):
            self._add_input(info, tuple(most))
        self.kernels = [self._build(node) for node in model.graph.node]

    def _add_input(self, info: onnx.ValueInfoProto, most: tuple[int, ...]) -> None:
        kind = info.type.tensor_type
        dynamic = tuple(not d.HasField("dim_value") for d in kind.shape.dim)
        name = str(helper.tensor_dtype_to_np_dtype(kind.elem_type))
        shape = dims_of(info.name, most, dynamic)
        self.tensors[info.name] = BuiltTensor(shape, data_type(trt, name))
        self.limits |= {f"{info.name}.{axis}": extent for axis, extent in enumerate(most)}

    def _dynamic_desc(self, name: str) -> Any:
        tensor = self.tensors[name]
        static = [e.get_constant_value() if e.is_constant() else -1 for e in tensor.shape]
        return describe_dynamic(static, tensor.extents(self.limits), tensor.kind)

    def _build(self, node: onnx.NodeProto) -> BuiltKernel:
        plugin = self._create(node)
        shapes = [self.tensors[name].shape for name in node.input]
        kinds = [self.tensors[name].kind for name in node.input]
        types = plugin.get_output_data_types(kinds, [len(shape) for shape in shapes])
        made = plugin.get_output_shapes(shapes, [], Builder())
        assert len(made) == len(types) == plugin.get_num_outputs() == len(node.output)
        for name, shape, kind in zip(node.output, made, types, strict=True):
            self.tensors[name] = BuiltTensor(shape, kind)
        descs = [self._dynamic_desc(name) for name in (*node.input, *node.output)]
        count = len(node.input)
        formats = plugin.get_supported_format_combinations(descs, count)
        assert [f.type for f in formats] == [d.desc.type for d in descs]
        assert all(f.format == trt.TensorFormat.LINEAR for f in formats)
        plugin.configure_plugin(descs[:count], descs[count:])
        assert plugin.get_valid_tactics() == []
        plugin.set_tactic(0)
        params, extras = SimpleNamespace(), Extras()
        plugin.get_launch_params(shapes, descs, count, params, extras, Builder())
        plain = [describe(d.max, d.desc.type) for d in descs]
        entry, ptx = plugin.get_kernel(plain[:count], plain[count:])
        launch = {name: value.expr for name, value in vars(params).items()}
        return BuiltKernel(tuple(node.input), tuple(node.output), entry, ptx, launch, extras.all())

    def _create(self, node: onnx.NodeProto) -> Any:
        text = {
            a.name: a.s.decode() for a in node.attribute if a.type == onnx.AttributeProto.STRING
        }
        aot = [a.i for a in node.attribute if a.name == "aot"]
        assert node.domain == text["plugin_namespace"]
        assert aot == [1]
        creator = trt.get_plugin_registry().get_creator(
            node.op_type, text["plugin_version"], text["plugin_namespace"]
        )
        assert creator is not None, node.op_type
        return creator.create_plugin(
            node.op_type, text["plugin_namespace"], parsed_fields(node, creator),
            trt.TensorRTPhase.BUILD, trt.QuickPluginCreationRequest.STRICT_AOT,
        )  # fmt: skip

    def run(
        self, values: Sequence[np.ndarray], plan: LaunchPlan, where: Any = None
    ) -> list[np.ndarray]:
        """Launch every kernel; `plan` tells the host which file and macros the kernels are of."""
        where = where or Host()
        sizes, buffers = {}, {}
        for name, value in zip(self.inputs, values, strict=True):
            sizes |= {f"{name}.{axis}": extent for axis, extent in enumerate(value.shape)}
        for name, tensor in self.tensors.items():
            buffers[name] = where.Buffer(tensor.extents(sizes), dtype_name(tensor.kind))
        for name, value in zip(self.inputs, values, strict=True):
            buffers[name].write(value)
        for kernel in self.kernels:
            where.launch(plan, self.launch_of(kernel, sizes, buffers))
        return [buffers[name].read() for name in self.outputs]

    def launch_of(
        self, kernel: BuiltKernel, sizes: Mapping[str, int], buffers: Mapping[str, Any]
    ) -> Launch:
        """Return a kernel's launch for shapes of the moment, checked against its PTX."""
        numbers = {name: value.value(sizes) for name, value in kernel.launch.items()}
        assert all(numbers[name] >= 1 for name in (*_GRID, *_BLOCK)), numbers
        assert numbers["grid_y"] <= 65535
        assert numbers["grid_z"] <= 65535
        kinds = ["u64"] * len(kernel.inputs) + ["u32"] * len(kernel.extras)
        assert parameters(kernel.ptx, kernel.entry) == kinds + ["u64"] * len(kernel.outputs)
        return Launch(
            kernel.entry, kernel.ptx,
            tuple(numbers[n] for n in _GRID), tuple(numbers[n] for n in _BLOCK),
            numbers["shared_mem"], tuple(buffers[n] for n in kernel.inputs),
            tuple(extra.value(sizes) for extra in kernel.extras),
            tuple(buffers[n] for n in kernel.outputs),
        )  # fmt: skip


def parameters(ptx: bytes, entry: str) -> list[str]:
    """Return the kinds of a kernel's parameters: u64 for a pointer, u32 for a number."""
    assert b"\0" not in ptx
    found = re.search(rf"\.entry {entry}\((.*?)\)", ptx.decode(), re.DOTALL)
    assert found, f"no kernel {entry} in the PTX"
    kinds = re.findall(r"\.param \.([ubs]\d+)", found[1])
    return [f"u{kind[1:]}" for kind in kinds]
