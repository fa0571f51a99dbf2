"""Between a schema and TensorRT's words: plugin fields, data types, versions.

An attribute becomes numbers (`field_numbers.py`), and each of those the field that TensorRT's ONNX
parser makes of it: INT32 for a whole number, FLOAT32 for a float, of one element.
"""

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from ...core import UnsupportedModelError, UnsupportedTargetError, require
from ..operator import AttributeValue, Schema
from .field_numbers import attributes_of_numbers, number_kinds, numbers_of

__all__ = [
    "attributes_of",
    "check_fields",
    "data_type",
    "dtype_name",
    "fields_of",
    "named_fields",
    "parse_version",
    "require_tensorrt",
]

_DATA_TYPES = {
    "float32": "FLOAT",
    "float16": "HALF",
    "int32": "INT32",
    "int8": "INT8",
    "uint8": "UINT8",
}
_DTYPE_NAMES = {theirs: ours for ours, theirs in _DATA_TYPES.items()}
_NUMPY_TYPES = {int: np.int32, float: np.float32}
_FIELD_TYPES = {int: "INT32", float: "FLOAT32"}
_PROBE = 1.5  # no bit pattern of a whole number, and not zero


def require_tensorrt(trt: ModuleType | None, least: tuple[int, int], purpose: str) -> ModuleType:
    """Return `trt`, or import TensorRT; either must be of version `least` or later.

    Raises:
        MissingDependencyError: it is not installed.
        UnsupportedTargetError: it is older.
    """
    trt = trt or require("tensorrt", purpose)
    if parse_version(trt.__version__) < least:
        raise UnsupportedTargetError(
            f"TensorRT {least[0]}.{least[1]} or later is needed to {purpose}, and this is "
            f"{trt.__version__}: install a newer one, or lower the graph without plugins."
        )
    return trt


def parse_version(version: str) -> tuple[int, int]:
    """Return major and minor number of a version such as `"10.16.1.11"`."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def data_type(trt: ModuleType, dtype: str) -> Any:
    """Return TensorRT's data type of a NumPy type name."""
    return getattr(trt.DataType, _DATA_TYPES[dtype])


def dtype_name(kind: Any) -> str:
    """Return the NumPy type name of a `tensorrt.DataType`.

    Raises:
        UnsupportedModelError: a type that no kernel takes.
    """
    if kind.name not in _DTYPE_NAMES:
        raise UnsupportedModelError(
            f"no kernel of maskrt takes a tensor of type {kind.name}: cast it to one of "
            f"{', '.join(_DTYPE_NAMES)}."
        )
    return _DTYPE_NAMES[kind.name]


def named_fields(trt: ModuleType, schema: Schema) -> Any:
    """Return the fields that a creator asks for, without values."""
    return trt.PluginFieldCollection(
        [
            trt.PluginField(name, np.array([]), _field_type(trt, kind))
            for name, kind in number_kinds(schema).items()
        ]
    )


def fields_of(
    trt: ModuleType, schema: Schema, attributes: Mapping[str, AttributeValue]
) -> tuple[Any, list[Any]]:
    """Return an operator's attributes as plugin fields, and the memory that they point to."""
    kinds = number_kinds(schema)
    numbers = numbers_of({a.name: attributes[a.name] for a in schema.attributes})
    memory = [np.array([value], _NUMPY_TYPES[kinds[name]]) for name, value in numbers.items()]
    fields = [
        trt.PluginField(name, data, _field_type(trt, kinds[name]))
        for name, data in zip(numbers, memory, strict=True)
    ]
    return trt.PluginFieldCollection(fields), memory


def attributes_of(schema: Schema, fields: Iterable[Any]) -> dict[str, AttributeValue]:
    """Return plugin fields as an operator's attributes; those left out get their default.

    Raises:
        UnsupportedModelError: a field is missing, unknown, no number, or outside the schema's
            limits.
    """
    numbers = {field.name: _number(schema, field) for field in fields}
    values = attributes_of_numbers(schema, numbers)
    schema.validate(values, sum(port.repeat[0] for port in schema.inputs))
    return schema.filled(values)


def check_fields(trt: ModuleType) -> None:
    """Raise `UnsupportedTargetError` unless a plugin field is read as it was written."""
    data = np.array([_PROBE], np.float32)
    collection = trt.PluginFieldCollection(
        [trt.PluginField("probe", data, _field_type(trt, float))]
    )
    found = [np.asarray(field.data).ravel().tolist() for field in collection]
    if found != [[_PROBE]]:
        raise UnsupportedTargetError(
            f"TensorRT {trt.__version__} with NumPy {np.__version__} reads the plugin field "
            f"{[_PROBE]} as {found[0] if found else 'nothing'}, so that no plugin of maskrt would "
            "be what the graph says: run pip install 'numpy<2'."
        )


def _field_type(trt: ModuleType, kind: type) -> Any:
    return getattr(trt.PluginFieldType, _FIELD_TYPES[kind])


def _number(schema: Schema, field: Any) -> int | float:
    found = np.asarray(field.data).ravel().tolist()
    if len(found) != 1:
        raise UnsupportedModelError(
            f"field {field.name} of a {schema.name} node has {len(found)} elements, and each field "
            "of maskrt's plugins is one number: lower the graph again."
        )
    return found[0]
