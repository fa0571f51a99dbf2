"""Between a schema and TensorRT's words: plugin fields, data types, versions.

An attribute becomes the field that TensorRT's ONNX parser makes of it: INT32 for a whole number,
FLOAT32 for a float or a tuple of floats, CHAR for text.
"""

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from ...core import UnsupportedModelError, UnsupportedTargetError, require
from ..operator import Attribute, AttributeValue, Schema

__all__ = [
    "attributes_of",
    "data_type",
    "dtype_name",
    "fields_of",
    "named_fields",
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
_FIELD_TYPES = {int: "INT32", float: "FLOAT32", tuple: "FLOAT32", str: "CHAR"}


def require_tensorrt(trt: ModuleType | None, least: tuple[int, int], purpose: str) -> ModuleType:
    """Return `trt`, or import TensorRT; either must be of version `least` or later.

    Raises:
        MissingDependencyError: it is not installed.
        UnsupportedTargetError: it is older.
    """
    trt = trt or require("tensorrt", purpose)
    if tuple(int(part) for part in trt.__version__.split(".")[:2]) < least:
        raise UnsupportedTargetError(
            f"TensorRT {least[0]}.{least[1]} or later is needed to {purpose}, and this is "
            f"{trt.__version__}: install a newer one, or lower the graph without plugins."
        )
    return trt


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
        [trt.PluginField(a.name, np.array([]), _field_type(trt, a)) for a in schema.attributes]
    )


def fields_of(
    trt: ModuleType, schema: Schema, attributes: Mapping[str, AttributeValue]
) -> tuple[Any, list[Any]]:
    """Return an operator's attributes as plugin fields, and the memory that they point to."""
    memory = [_field_data(attributes[a.name]) for a in schema.attributes]
    fields = [
        trt.PluginField(attribute.name, data, _field_type(trt, attribute))
        for attribute, data in zip(schema.attributes, memory, strict=True)
    ]
    return trt.PluginFieldCollection(fields), memory


def attributes_of(schema: Schema, fields: Iterable[Any]) -> dict[str, AttributeValue]:
    """Return plugin fields as an operator's attributes; those left out get their default.

    Raises:
        UnsupportedModelError: a field is missing, unknown or outside the schema's limits.
    """
    kinds = {attribute.name: attribute.kind for attribute in schema.attributes}
    values = {f.name: _value(kinds.get(f.name, tuple), f.data) for f in fields}
    schema.validate(values, sum(port.repeat[0] for port in schema.inputs))
    return schema.filled(values)


def _field_type(trt: ModuleType, attribute: Attribute) -> Any:
    return getattr(trt.PluginFieldType, _FIELD_TYPES[attribute.kind])


def _field_data(value: AttributeValue) -> Any:
    if isinstance(value, str):
        return value.encode()
    return np.atleast_1d(np.asarray(value, np.int32 if isinstance(value, int) else np.float32))


def _value(kind: type, data: Any) -> AttributeValue:
    array = np.asarray(data)
    if kind is str:
        return array.tobytes().rstrip(b"\0").decode()
    numbers = array.ravel().tolist()
    if kind is tuple or len(numbers) != 1:  # another count is what the schema refuses
        return tuple(float(number) for number in numbers)
    return kind(numbers[0])
