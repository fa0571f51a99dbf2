"""TensorRT's plugin registry, and its own `tensorrt.plugin` package, without TensorRT's builder.

Importing this takes one of the `tensorrt-lean` wheels on the path: it becomes `tensorrt`. What the
lean one lacks, or what only a builder can make, is put in its place: tensor formats, `ITensor`,
shape expressions (`expressions.py`), and tensor descriptors whose format can be read. Everything
else is NVIDIA's, `tensorrt.plugin` only where the version has it (`trtp` is None else): registry,
creators, plugin base classes, fields, decorators and their validation.
"""

import enum
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorrt_lean as trt
import tensorrt_lean_bindings

from .expressions import Dims, Expression

_memory: list[Any] = []
_PLUGIN = Path(tensorrt_lean_bindings.__file__).parent / "plugin"


class TensorFormat(enum.Enum):
    LINEAR = 0
    CHW4 = 1


class PluginTensorDesc(trt.PluginTensorDesc):
    format: Any = None  # the lean one's cannot be read, since its type is unknown there


class DynamicPluginTensorDesc(trt.DynamicPluginTensorDesc):
    desc: Any = None  # the base's would be a copy without our format


class SymExpr:
    """As `tensorrt.ISymExpr`, whose attributes can only be written."""


def _load() -> Any:
    for ours in (TensorFormat, PluginTensorDesc, DynamicPluginTensorDesc):
        setattr(trt, ours.__name__, ours)
    trt.ITensor, trt.ISymExpr = type("ITensor", (), {}), SymExpr
    trt.IDimensionExpr, trt.DimsExprs = Expression, Dims
    sys.modules["tensorrt"] = trt
    if not (_PLUGIN / "__init__.py").is_file():
        return None  # before 10.5
    spec = importlib.util.spec_from_file_location(
        "tensorrt.plugin", _PLUGIN / "__init__.py", submodule_search_locations=[str(_PLUGIN)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["tensorrt.plugin"] = trt.plugin = module
    spec.loader.exec_module(module)
    return module


trtp = _load()


def describe(shape: Sequence[int], kind: Any, format: TensorFormat = TensorFormat.LINEAR) -> Any:
    """Return the `PluginTensorDesc` of a tensor."""
    found = PluginTensorDesc()
    found.dims, found.type, found.format = trt.Dims(list(shape)), kind, format
    return found


def describe_dynamic(shape: Sequence[int], largest: Sequence[int], kind: Any, **more: Any) -> Any:
    """Return the `DynamicPluginTensorDesc` of a tensor; `shape` has -1 where it is dynamic."""
    found = DynamicPluginTensorDesc()
    found.desc = describe(shape, kind, **more)
    found.min = found.opt = found.max = trt.Dims(list(largest))
    return found


def parsed_fields(node: onnx.NodeProto, creator: Any) -> Any:
    """Return the plugin fields that TensorRT's ONNX parser makes of a node's attributes.

    It asks the creator for names and takes the types from the attributes (onnx-tensorrt,
    `loadFields`). A field owns neither its name nor its data, so they are kept here.
    """
    attributes, fields = {a.name: a for a in node.attribute}, []
    kinds = trt.PluginFieldType
    for name in (field.name for field in creator.field_names):
        if name not in attributes:
            continue
        _memory.append(name)
        value = onnx.helper.get_attribute_value(attributes[name])
        if isinstance(value, bytes):
            _memory.append(value)
            fields.append(trt.PluginField(name, value, kinds.CHAR))
            continue
        is_int = attributes[name].type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS)
        data = np.atleast_1d(np.asarray(value, np.int32 if is_int else np.float32))
        _memory.append(data)
        fields.append(trt.PluginField(name, data, kinds.INT32 if is_int else kinds.FLOAT32))
    return trt.PluginFieldCollection(fields)
