"""NumPy's arrays in a pickle, made from the records of the calls that would have made them.

NumPy pickles an array as `_reconstruct(ndarray, (0,), b"b")` with a state of version, shape, dtype,
whether it lies column by column, and bytes; with protocol 5, as `_frombuffer(bytes, dtype, shape,
order)`. A dtype is `dtype("f4", …)` with a state that holds the order of its bytes. Neither is
called: their arguments are checked, and the bytes are read.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .inert_pickle import Name, Record, UnreadablePickleError

__all__ = ["array_bytes", "array_of", "is_array"]

_RECONSTRUCT = tuple((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core"))
_FROM_BUFFER = tuple((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core"))
_DTYPE = ("numpy", "dtype")
_ENCODE = ("_codecs", "encode")  # by which bytes are kept in old pickles
_KINDS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
_MOST_SIDES = 32


def is_array(value: Any) -> bool:
    """Whether `value` is the record of an array, well made or not."""
    return isinstance(value, Record) and value.calls(*_RECONSTRUCT, *_FROM_BUFFER)


def array_bytes(record: Record) -> int:
    """Return how many bytes the array's numbers take.

    Raises:
        UnreadablePickleError: it is no array of numbers.
    """
    shape, dtype, _, _ = _parts(record)
    return math.prod(shape) * dtype.itemsize


def array_of(record: Record) -> np.ndarray:
    """Return the array that `record` describes, with the machine's own order of bytes.

    Raises:
        UnreadablePickleError: it is no array of numbers, or its bytes do not fill its shape.
    """
    shape, dtype, order, raw = _parts(record)
    content = _bytes(raw)
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise UnreadablePickleError(
            f"an array of {list(shape)} {dtype.name} has {len(content)} bytes"
        )
    array = np.frombuffer(content, dtype).reshape(shape, order=order)
    return np.array(array, dtype.newbyteorder("="), order="C")


def _parts(record: Record) -> tuple[tuple[int, ...], np.dtype, Any, Any]:
    """Return shape, dtype, order ("C" or "F") and the bytes, however they are kept."""
    if record.calls(*_FROM_BUFFER):
        raw, dtype, shape, order = _of_length(record.arguments, 4)
    else:
        _, shape, dtype, by_columns, raw = _of_length(record.state, 5)
        order = "F" if by_columns else "C"
    if order not in ("C", "F"):
        raise UnreadablePickleError("an array has an order that is neither C nor F")
    return _shape(shape), _dtype(dtype), order, raw


def _of_length(value: Any, length: int) -> tuple[Any, ...]:
    if not isinstance(value, tuple) or len(value) != length:
        raise UnreadablePickleError("an array is not made as NumPy makes one")
    return value


def _shape(value: Any) -> tuple[int, ...]:
    sides = value if isinstance(value, tuple) else (value,)
    if len(sides) > _MOST_SIDES or not all(type(s) is int and 0 <= s < 1 << 48 for s in sides):
        raise UnreadablePickleError("an array has a shape that is none")
    return sides


def _dtype(value: Any) -> np.dtype:
    """Return a dtype of plain numbers; nothing of what the file says reaches NumPy unchecked."""
    if not isinstance(value, Record) or not value.calls(_DTYPE):
        raise UnreadablePickleError("an array has a dtype that is none")
    code = value.arguments[0] if isinstance(value.arguments, tuple) and value.arguments else None
    if not isinstance(code, str) or code not in _KINDS:
        shown = code[:20] if isinstance(code, str) else type(code).__name__
        raise UnreadablePickleError(f"an array holds {shown!r}, which are no plain numbers")
    state = value.state if isinstance(value.state, tuple) else ()
    order = state[1] if len(state) > 1 else "="
    if not isinstance(order, str) or order not in ("<", ">", "|", "="):
        raise UnreadablePickleError("an array has an unknown order of bytes")
    return np.dtype(code) if order in "|=" else np.dtype(f"{order}{code}")


def _bytes(value: Any) -> bytes | bytearray:
    if isinstance(value, Record) and value.calls(_ENCODE):
        parts = value.arguments if isinstance(value.arguments, tuple) else ()
        value = parts[0] if len(parts) == 2 and parts[1] == "latin1" else None
    if isinstance(value, str):  # Python 2's bytes, and what Python 3 encodes for it
        try:
            return value.encode("latin1")
        except UnicodeEncodeError:
            raise UnreadablePickleError("an array has letters in the place of bytes") from None
    if isinstance(value, bytes | bytearray):
        return value
    held = str(value) if isinstance(value, Name) else type(value).__name__
    raise UnreadablePickleError(f"an array has no bytes, but a {held}")
