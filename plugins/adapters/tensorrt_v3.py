"""TensorRT 10.0 and later: every operator as an `IPluginV3`, made of its schema and launch plan.

    creators = register_plugins()          # before parsing a graph, and before loading an engine

The plugin of an operator bears its name, its schema's version and the namespace `maskrt`; its
fields are the schema's attributes, as numbers (`field_numbers.py`). Its kernels are compiled when
TensorRT announces concrete shapes (`on_shape_change`), and `enqueue` only launches them on
TensorRT's stream: it neither allocates nor synchronises nor copies, since TensorRT captures it
while it times tactics. Scratch tensors lie in TensorRT's workspace, each at a multiple of 256
bytes.

Tested without a GPU on the plugin registry of `tensorrt-lean`, with the bindings of 10.3, 10.9,
10.13, 10.16 and 11.4, of which those before 10.16 with NumPy 1.26 and 2: registration, look-up,
creation from fields, serialisation, shapes, types, formats, workspace, and `enqueue` with a driver
that runs the kernels on the host. Building and running an engine needs the full TensorRT.

Source: NVIDIA TensorRT, Python API, IPluginV3.
"""

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from onnx import helper

from ..bodies import OPERATORS
from ..launch import LaunchPlan, Tensor
from ..operator import DOMAIN, AttributeValue, Operator
from .cuda_driver import Function, launch_stage, load_plan
from .plan_inputs import input_tensors, ports_of_inputs, probe_plan
from .sizes import Algebra, evaluate
from .tensorrt_fields import (
    attributes_of,
    check_fields,
    data_type,
    dtype_name,
    fields_of,
    named_fields,
    parse_version,
    require_tensorrt,
)

__all__ = ["register_plugins"]

_ALIGNMENT = 256  # bytes, as CUDA's own allocations have

_creators: list[Any] = []  # TensorRT holds them without owning them


def register_plugins(trt: ModuleType | None = None) -> tuple[Any, ...]:
    """Register a creator for every operator, once a process.

    Args:
        trt: TensorRT's module; `None` imports `tensorrt`.

    Returns:
        The creators; they live as long as the process.

    Raises:
        MissingDependencyError: TensorRT is not installed.
        UnsupportedTargetError: it is older than 10.0, or it misreads plugin fields.
    """
    return _register(require_tensorrt(trt, (10, 0), "run maskrt's operators as plugins"))


@lru_cache
def _register(trt: ModuleType) -> tuple[Any, ...]:
    check_fields(trt)
    plugin_class, creator_class = _plugin_class(trt), _creator_class(trt)
    registry = trt.get_plugin_registry()
    for operator in OPERATORS.values():
        creator = creator_class(operator, plugin_class)
        if not registry.register_creator(creator, DOMAIN):
            raise RuntimeError(
                f"TensorRT has another plugin {operator.schema.name}, version "
                f"{operator.schema.version}, in the namespace {DOMAIN}: do not load both."
            )
        _creators.append(creator)
    return tuple(_creators)


@dataclass(frozen=True)
class _Prepared:
    """What `enqueue` launches for given shapes: everything but addresses."""

    plan: LaunchPlan
    kernels: Mapping[str, Function]
    offsets: Mapping[str, int]

    def launch(
        self, inputs: Sequence[int], outputs: Sequence[int], workspace: int, stream: int
    ) -> None:
        addresses = dict(zip(self.plan.inputs, inputs, strict=True))
        addresses |= dict(zip(self.plan.outputs, outputs, strict=True))
        addresses |= {name: workspace + offset for name, offset in self.offsets.items()}
        for stage in self.plan.working_stages:
            launch_stage(self.kernels[stage.entry], stage, addresses, stream)


def _scratch(plan: LaunchPlan) -> tuple[dict[str, int], int]:
    """Return each scratch tensor's offset in the workspace, and the workspace's size, in bytes."""
    offsets, size = {}, 0
    for name in plan.scratch:
        tensor = plan.tensors[name]
        offsets[name] = size
        used = math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
        size += -(-used // _ALIGNMENT) * _ALIGNMENT
    return offsets, size


def _tensors(descriptors: Sequence[Any]) -> tuple[Tensor, ...]:
    """Return what `tensorrt.PluginTensorDesc`s describe."""
    return tuple(Tensor(tuple(d.dims), dtype_name(d.type)) for d in descriptors)


def _largest(descriptors: Sequence[Any]) -> tuple[Tensor, ...]:
    """Return the largest tensors that `tensorrt.DynamicPluginTensorDesc`s allow."""
    found = []
    for d in descriptors:
        extents = zip(d.desc.dims, d.max, strict=True)
        shape = tuple(extent if extent >= 0 else most for extent, most in extents)
        found.append(Tensor(shape, dtype_name(d.desc.type)))
    return tuple(found)


@lru_cache
def _plugin_class(trt: ModuleType) -> type:
    """Return the plugin's class; it derives from TensorRT's, so it is made when that is here.

    The bindings of 10.0 to 10.3 free a plugin's memory twice when the last reference to it goes, so
    there none goes as long as the process lives.
    """
    frees_twice = parse_version(trt.__version__) < (10, 4)

    class Plugin(
        trt.IPluginV3,  # type: ignore[name-defined]
        trt.IPluginV3OneCore,  # type: ignore[name-defined]
        trt.IPluginV3OneBuild,  # type: ignore[name-defined]
        trt.IPluginV3OneRuntime,  # type: ignore[name-defined]
    ):
        """One node: an operator with attributes."""

        def __init__(self, operator: Operator, attributes: Mapping[str, AttributeValue]) -> None:
            trt.IPluginV3.__init__(self)
            trt.IPluginV3OneCore.__init__(self)
            trt.IPluginV3OneBuild.__init__(self)
            trt.IPluginV3OneRuntime.__init__(self)
            self.plugin_name = operator.schema.name
            self.plugin_version = str(operator.schema.version)
            self.plugin_namespace = DOMAIN
            self.num_outputs = len(operator.schema.outputs)
            self.timing_cache_id = ""
            self.operator = operator
            self.attributes = dict(attributes)
            self._input_dtypes: tuple[str, ...] = ()
            self._prepared: dict[tuple[Tensor, ...], _Prepared] = {}
            self._memory: list[Any] = []
            if frees_twice:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

        def get_capability_interface(self, type: Any) -> Any:
            return self

        def clone(self) -> Any:
            twin = Plugin(self.operator, self.attributes)
            twin._input_dtypes = self._input_dtypes
            twin._prepared = self._prepared
            return twin

        def attach_to_context(self, context: Any) -> Any:
            return self.clone()

        def get_fields_to_serialize(self) -> Any:
            fields, self._memory = fields_of(trt, self.operator.schema, self.attributes)
            return fields

        # Build time.

        def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
            self._input_dtypes = tuple(dtype_name(kind) for kind in input_types)
            plan = probe_plan(self.operator, self.attributes, self._input_dtypes)
            return [data_type(trt, plan.tensors[name].dtype) for name in plan.outputs]

        def get_output_shapes(
            self, inputs: Sequence[Any], shape_inputs: Sequence[Any], builder: Any
        ) -> list[Any]:
            return _output_shapes(trt, self.operator, self.attributes,
                                  self._input_dtypes, inputs, builder)  # fmt: skip

        def supports_format_combination(
            self, pos: int, in_out: Sequence[Any], num_inputs: int
        ) -> bool:
            return _is_supported(trt, self.operator, self.attributes, pos, in_out, num_inputs)

        def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            pass

        def get_valid_tactics(self) -> list[int]:
            return []

        def get_workspace_size(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
            return _scratch(self.operator.launch(self.attributes, _largest(inputs)))[1]

        # Run time, and while tactics are timed.

        def set_tactic(self, tactic: int) -> None:
            pass

        def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            self._prepare(_tensors(inputs))

        def enqueue(
            self,
            input_desc: Sequence[Any],
            output_desc: Sequence[Any],
            inputs: Sequence[int],
            outputs: Sequence[int],
            workspace: int,
            stream: int,
        ) -> None:
            self._prepare(_tensors(input_desc)).launch(inputs, outputs, workspace, stream)

        def _prepare(self, tensors: tuple[Tensor, ...]) -> _Prepared:
            if tensors not in self._prepared:
                plan = self.operator.launch(self.attributes, tensors)
                self._prepared[tensors] = _Prepared(plan, load_plan(plan), _scratch(plan)[0])
            return self._prepared[tensors]

    return Plugin


@lru_cache
def _creator_class(trt: ModuleType) -> type:
    """Return the creator's class, as `_plugin_class`."""

    class Creator(trt.IPluginCreatorV3One):  # type: ignore[name-defined]
        """Makes the plugins of one operator."""

        def __init__(self, operator: Operator, plugin_class: type) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name = operator.schema.name
            self.plugin_version = str(operator.schema.version)
            self.plugin_namespace = DOMAIN
            self.field_names = named_fields(trt, operator.schema)
            self._operator = operator
            self._plugin_class = plugin_class

        def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
            attributes = attributes_of(self._operator.schema, fields)
            return self._plugin_class(self._operator, attributes)

    return Creator


def _output_shapes(
    trt: ModuleType,
    operator: Operator,
    attributes: Mapping[str, AttributeValue],
    dtypes: Sequence[str],
    inputs: Sequence[Any],
    builder: Any,
) -> list[Any]:
    """Return the outputs' shapes as `tensorrt.DimsExprs` over those of the inputs."""
    dimensions, shapes = {}, []
    ports = ports_of_inputs(operator.schema, len(inputs))
    for dims, (_, symbols) in zip(inputs, ports, strict=True):
        shape = []
        for index, symbol in enumerate(symbols):
            known = dims[index].is_constant()
            shape.append(dims[index].get_constant_value() if known else -1)
            dimensions[str(symbol)] = dims[index]
        shapes.append(shape)
    algebra = Algebra(
        builder.constant,
        dimensions.__getitem__,
        lambda name, a, b: builder.operation(getattr(trt.DimensionOperation, name), a, b),
    )
    plan = operator.launch(attributes, input_tensors(operator.schema, shapes, dtypes))
    found = []
    for name in plan.outputs:
        extents = plan.tensors[name].shape
        exprs = trt.DimsExprs(len(extents))
        for index, extent in enumerate(extents):
            exprs[index] = evaluate(extent, algebra)
        found.append(exprs)
    return found


def _is_supported(
    trt: ModuleType,
    operator: Operator,
    attributes: Mapping[str, AttributeValue],
    pos: int,
    in_out: Sequence[Any],
    num_inputs: int,
) -> bool:
    """Whether the plugin takes format and type of tensor `pos`, given those before it."""
    kinds = [d.desc.type for d in in_out[: pos + 1]]
    if in_out[pos].desc.format != trt.TensorFormat.LINEAR:
        return False
    if pos >= num_inputs:
        dtypes = [dtype_name(kind) for kind in kinds[:num_inputs]]
        plan = probe_plan(operator, attributes, dtypes)
        return kinds[pos] == data_type(trt, plan.tensors[plan.outputs[pos - num_inputs]].dtype)
    ports = [port for port, _ in ports_of_inputs(operator.schema, num_inputs)]
    names = (str(helper.tensor_dtype_to_np_dtype(kind)) for kind in ports[pos].types)
    allowed = [data_type(trt, name) for name in names]
    return kinds[pos] in allowed and kinds[pos] == kinds[ports.index(ports[pos])]
