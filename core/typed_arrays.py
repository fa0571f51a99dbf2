"""NumPy archives (`.npz`) read back: only the arrays that are declared, of the declared types.

NumPy's own reader unpacks whatever an entry claims to hold, evaluates headers, and allocates what
these say. Here an entry's header must be, letter by letter, one that `numpy.savez` writes for a
plain little-endian array; its size must be the one that follows from its shape; and all entries
together may unpack to 256 times the file's size and 16 MiB at most, which is looked up before a
byte is unpacked. Nothing is ever unpickled.
"""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["Declared", "read_archive"]

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    r"\{'descr': '([<|][a-z]\d)', 'fortran_order': False, "
    r"'shape': \(((?:\d{1,12}, ?)*(?:\d{1,12})?)\), \} *\n"
)
_LONGEST_HEADER = 256
_UNPACKED, _MORE = 256, 16 << 20  # what an archive may unpack to: times its size, and bytes
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1


@dataclass(frozen=True)
class Declared:
    """What an array of an archive must be.

    Attributes:
        kind: NumPy's word, such as `"float32"`.
        shape: a length for each axis; None is any.
    """

    kind: str
    shape: tuple[int | None, ...]


def read_archive(data: bytes, arrays: Mapping[str, Declared]) -> dict[str, np.ndarray]:
    """Return the declared arrays of the archive `data`.

    Raises:
        ValueError: one is missing, damaged or another than declared; the message is a clause.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            wanted = [_entry(entries, name) for name in arrays]
            if sum(entry.file_size for entry in wanted) > _UNPACKED * len(data) + _MORE:
                raise ValueError("it unpacks to hundreds of times its size")
            return {
                name: _array(archive.read(entry), name, declared)
                for entry, (name, declared) in zip(wanted, arrays.items(), strict=True)
            }
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError,
        UnicodeDecodeError, OverflowError,
    ) as error:  # fmt: skip
        raise ValueError(f"it is a damaged archive, {' '.join(str(error).split())}") from error


def _entry(entries: Mapping[str, zipfile.ZipInfo], name: str) -> zipfile.ZipInfo:
    entry = entries.get(f"{name}.npy")
    if entry is None:
        raise ValueError(f"it has no array {name}")
    if entry.compress_type not in _METHODS or entry.flag_bits & _ENCRYPTED:
        raise ValueError(f"its array {name} is packed in a way that maskrt does not write")
    return entry


def _array(raw: bytes, name: str, declared: Declared) -> np.ndarray:
    """Return the array in the `.npy` bytes `raw`; it cannot be written to."""
    kind, shape, start = _header(raw, name)
    fits = len(shape) == len(declared.shape) and all(
        want is None or want == have for want, have in zip(declared.shape, shape, strict=True)
    )
    dtype = np.dtype(declared.kind)
    if not fits or kind != dtype.newbyteorder("<").str:
        axes = ", ".join("any" if n is None else str(n) for n in declared.shape)
        raise ValueError(f"its array {name} is {kind} {list(shape)}, not {declared.kind} [{axes}]")
    count = 1
    for length in shape:
        count *= length
    if len(raw) - start != count * dtype.itemsize:
        raise ValueError(f"its array {name} has another size than its header says")
    return np.frombuffer(raw, dtype, count, start).reshape(shape)


def _header(raw: bytes, name: str) -> tuple[str, tuple[int, ...], int]:
    """Return the type, the shape, and where the values begin."""
    if raw[: len(_MAGIC)] == _MAGIC and len(raw) >= 10:
        start = 10 + int.from_bytes(raw[8:10], "little")
        text = raw[10 : min(start, _LONGEST_HEADER)].decode("latin-1")
        if (found := _HEADER.fullmatch(text)) is not None:
            shape = tuple(int(length) for length in found[2].split(",") if length.strip())
            return found[1], shape, start
    raise ValueError(f"its array {name} has a header that maskrt does not write")
