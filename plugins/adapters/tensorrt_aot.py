"""TensorRT 10.9 and later: every kernel as an ahead-of-time plugin, whose PTX the engine keeps.

    lowered = lower_to_aot(model)
    register_aot_plugins(lowered)          # before parsing it; an engine needs nothing of this

TensorRT takes one kernel a plugin, as PTX, under a name of its own (`engine_entry`), with the
arguments

    inputs…, int32 extras…, outputs…

which is a stage of a launch plan. What it is told of a kernel is symbolic: grid and extras are
expressions of the shapes of the plugin's own inputs. A launch plan, however, speaks of the shapes
of the operator's inputs, which a later kernel may not read. So each node states those that are
known, and the others are found where the plan has them as they are in a shape of an input (for
`order [B, K]` of BatchedNMS, both). TensorRT launches every kernel, whatever the shapes are, and no
kernel expects an empty batch: a profile's least batch is 1.

Fields are numbers (`field_numbers.py`), and arrays of one element in the signature: with NumPy 2.4
and later, TensorRT before 11.2 fails to read `int` and `float`; and they are not
`numpy.typing.NDArray`, which TensorRT 10.16 does not take with NumPy 2.5. All attributes stand in
`aot_impl` too, in the order of `register`, which validation wants. The decorators look at
signatures alone, so those are made of the schema.

Tested without a GPU, with TensorRT's own `plugin` package of 10.9, 10.13, 10.16 and 11.4: its
validation, registration, look-up and creation from fields, and what it derives for the engine
(shapes, kernel, PTX, grid, block, extras), launched on the host. That the builder accepts and times
the PTX takes the full TensorRT and a GPU.

Source: NVIDIA TensorRT, Python API, tensorrt.plugin.
"""

import hashlib
import inspect
import operator as arithmetic
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import GenericAlias, ModuleType
from typing import Any

import numpy as np
import onnx

from ...core import UnsupportedModelError, UnsupportedTargetError, require
from ..bodies import OPERATORS
from ..launch import Dim, LaunchPlan, Stage
from ..operator import DOMAIN, Operator
from .cuda_driver import compute_capability
from .field_numbers import number_kinds
from .nvrtc import compile_plan
from .sizes import Algebra, Size, evaluate
from .tensorrt_fields import check_fields, data_type, require_tensorrt
from .tensorrt_nodes import fields_in, split

__all__ = ["engine_entry", "register_aot_plugins"]

_PURPOSE = "run maskrt's operators as ahead-of-time plugins"
_INTEGERS = np.ndarray[Any, np.dtype[np.int32]]
_FLOATS = np.ndarray[Any, np.dtype[np.float32]]
_ANNOTATIONS: dict[type, Any] = {int: _INTEGERS, float: _FLOATS}

_ENTRY_START, _ENTRY_DIGITS = 6, 8

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "SUM": arithmetic.add,
    "SUB": arithmetic.sub,
    "PROD": arithmetic.mul,
    "FLOOR_DIV": arithmetic.floordiv,
}

_registered: dict[str, tuple[str, ...]] = {}  # plugin -> its fields


def register_aot_plugins(model: onnx.ModelProto, trt: ModuleType | None = None) -> tuple[str, ...]:
    """Register the plugins of a graph made by `lower_to_aot`, each once a process.

    Args:
        model: the graph.
        trt: TensorRT's module; `None` imports `tensorrt`.

    Returns:
        The plugins' names, in the namespace `maskrt`.

    Raises:
        MissingDependencyError: TensorRT is not installed.
        UnsupportedTargetError: it is older than 10.9, or it misreads plugin fields.
        UnsupportedModelError: a node is no such plugin, or has other fields than one before it.
    """
    trt = require_tensorrt(trt, (10, 9), _PURPOSE)
    trtp = require("tensorrt.plugin", _PURPOSE)
    check_fields(trt)
    nodes = [node for node in model.graph.node if node.domain == DOMAIN]
    for node in nodes:
        name = node.op_type
        fields = fields_in(node)
        if _registered.get(name, fields) != fields:
            raise UnsupportedModelError(
                f"node {node.name!r} has other fields than a node of the plugin {name} before it: "
                "build them in processes of their own."
            )
        if name not in _registered:
            counts = len(node.input), len(node.output)
            kernel = _Kernel(trt, trtp, _operator_of(name), *counts, fields)
            trtp.register(f"{DOMAIN}::{name}")(kernel.described())
            trtp.aot_impl(f"{DOMAIN}::{name}")(kernel.implemented())
            _registered[name] = fields
    return tuple(dict.fromkeys(node.op_type for node in nodes))


def engine_entry(plan: LaunchPlan, stage: Stage) -> str:
    """Return the name that a stage's kernel has in an engine: at most 15 characters, and its own.

    Before 10.14, TensorRT keeps no copy of a longer name when it asks for the kernel, and an engine
    holds kernels of several nodes, whose macros differ. So the name is a digest of the macros, too.
    """
    parts = (plan.source.parent.name, stage.entry, *map(str, sorted(plan.defines.items())))
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{stage.entry[:_ENTRY_START]}_{digest[:_ENTRY_DIGITS]}"


def _operator_of(name: str) -> Operator:
    operator, _, stage = name.partition("_")
    if operator not in OPERATORS or not stage:
        raise UnsupportedModelError(
            f"a node {name} of the domain {DOMAIN} is no kernel of an operator that this version "
            "knows: give the graph that lower_to_aot returns."
        )
    return OPERATORS[operator]


@dataclass(frozen=True)
class _Call:
    """A kernel's node as TensorRT presents it: which stage it is, and over which dimensions."""

    plan: LaunchPlan
    stage: Stage
    sm: int
    algebra: Algebra

    def size(self, dim: Dim) -> Any:
        """Return TensorRT's expression of a size."""
        return evaluate(dim, self.algebra)


@dataclass(frozen=True)
class _Kernel:
    """One plugin: makes the two functions that TensorRT's decorators take."""

    trt: ModuleType
    trtp: ModuleType
    operator: Operator
    inputs: int
    outputs: int
    fields: tuple[str, ...]

    def described(self) -> Callable[..., Any]:
        """Return the function that states the outputs' shapes and types."""

        def describe(*descriptors: Any, **attributes: Any) -> Any:
            call = self._call(descriptors, attributes)
            found = []
            for name in call.stage.outputs:
                tensor = call.plan.tensors[name]
                shape = tuple(call.size(dim) for dim in tensor.shape)
                dtype = data_type(self.trt, tensor.dtype)
                found.append(self.trtp.from_shape_expr(shape, dtype=dtype))
            return tuple(found)

        result = GenericAlias(tuple, (self.trtp.TensorDesc,) * self.outputs)
        return _with_signature(describe, self._parameters(), result)

    def implemented(self) -> Callable[..., Any]:
        """Return the function that states the kernel: name, PTX, launch and extra arguments."""

        def implement(*arguments: Any) -> Any:
            descriptors, values = arguments[: self.inputs], arguments[self.inputs : -2]
            call = self._call(descriptors, dict(zip(self.fields, values, strict=True)))
            entry = engine_entry(call.plan, call.stage)
            renamed = replace(call.plan, defines={**call.plan.defines, call.stage.entry: entry})
            code = compile_plan(renamed, call.sm or compute_capability(), "ptx").code
            return entry, code, self._launch(call), self._extras(call)

        trtp = self.trtp
        outputs = GenericAlias(tuple, (trtp.TensorDesc,) * self.outputs)
        parameters = {**self._parameters(), "outputs": outputs, "tactic": int}
        kernel = str | bytes
        result = tuple[kernel, kernel, trtp.KernelLaunchParams, trtp.SymExprs]  # type: ignore
        return _with_signature(implement, parameters, result)

    def _parameters(self) -> dict[str, Any]:
        tensors = {f"input{index}": self.trtp.TensorDesc for index in range(self.inputs)}
        kinds = number_kinds(self.operator.schema)
        return {**tensors, **{name: _ANNOTATIONS[kinds.get(name, int)] for name in self.fields}}

    def _call(self, descriptors: Sequence[Any], attributes: Mapping[str, Any]) -> _Call:
        numbers = {name: attributes[name].tolist()[0] for name in self.fields}
        position, values = split(self.operator, numbers)
        plan, stage = position.plan(self.operator, values), position.stage
        algebra = self._algebra(plan, stage, descriptors)
        return _Call(plan, plan.stages[stage], position.sm, algebra)

    def _algebra(self, plan: LaunchPlan, stage: int, descriptors: Sequence[Any]) -> Algebra:
        known = {}
        for name, found in zip(plan.stages[stage].inputs, descriptors, strict=True):
            self._require_as_lowered(plan, name, found)
            for dim, expr in zip(plan.tensors[name].shape, found.shape_expr, strict=True):
                if isinstance(dim, Size) and dim.operation == "DIM":
                    known[dim.operands[0]] = expr

        def dimension(name: str) -> Any:
            if name not in known:
                raise UnsupportedTargetError(
                    f"dimension {name} of {self.operator.schema.name} must be known when the graph "
                    f"is lowered, since {plan.stages[stage].entry} reads no tensor that has it."
                )
            return known[name]

        apply = {**_ARITHMETIC, "MAX": self.trtp.max}
        return Algebra(self.trtp.ShapeExpr, dimension, lambda name, a, b: apply[name](a, b))

    def _require_as_lowered(self, plan: LaunchPlan, name: str, found: Any) -> None:
        """Raise `UnsupportedModelError` unless TensorRT's tensor is the one of the plan."""
        tensor = plan.tensors[name]
        shapes = zip(tensor.shape, found.shape_expr, strict=True)
        differs = [
            dim for dim, expr in shapes
            if isinstance(dim, int) and not expr.is_fake and expr.is_constant
            and expr.constant_value() != dim
        ]  # fmt: skip
        if differs or found.dtype != data_type(self.trt, tensor.dtype):
            raise UnsupportedModelError(
                f"tensor {name} of {self.operator.schema.name} was {tensor.dtype} "
                f"{list(tensor.shape)} when the graph was lowered, and TensorRT has {found.dtype} "
                f"{found.shape_expr}: lower the graph that is built."
            )

    def _launch(self, call: _Call) -> Any:
        params = self.trtp.KernelLaunchParams()
        params.grid_x, params.grid_y, params.grid_z = (call.size(d) for d in call.stage.grid)
        params.block_x = call.stage.block
        return params

    def _extras(self, call: _Call) -> Any:
        extras = self.trtp.SymIntExprs(len(call.stage.extras))
        for index, dim in enumerate(call.stage.extras):
            extras[index] = self.trtp.SymInt32(call.size(dim))
        return extras


def _with_signature(
    function: Callable[..., Any], parameters: Mapping[str, Any], result: Any
) -> Callable[..., Any]:
    """Give `function` the signature that TensorRT's decorators read."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind, annotation=a) for name, a in parameters.items()],
        return_annotation=result,
    )
    return function
