"""`torch.save`'s files: a pickle, and storages beside it that it refers to.

    zip      ROOT/data.pkl is the pickle, ROOT/data/KEY a storage's bytes, all stored uncompressed
    legacy   (before PyTorch 1.6) five pickles, the fourth of them the content and the fifth the
             storages' keys; then, for each key, a length of 8 bytes and the storage's elements
    pickle   one pickle, which can hold NumPy's arrays; detectron2's model zoo

A tensor is the call `_rebuild_tensor_v2(storage, offset, size, stride, …)`, a storage the
persistent id `("storage", type, KEY, device, elements)`. Both are records (`inert_pickle`).
`TorchFile` checks the extent of a tensor against its storage, and that against the file; only then
bytes are read, and only of tensors that are asked for: the state of an optimizer stays on the disk.
"""

from __future__ import annotations

import io
import math
import mmap
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.closes import Closes
from .inert_pickle import Name, PersistentId, Record, UnreadablePickleError, read

__all__ = ["TorchFile", "as_tensor_record"]

_ZIP = b"PK\x03\x04"
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a legacy file
_LEGACY_VERSION = 1001
_TAR_PLACE = 257  # of the word "ustar" in a tar file, as PyTorch 0.1 wrote
_MOST_SIDES = 64
_LENGTH_BYTES = 8

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (*_STORAGES.values(), torch.uint16, torch.uint32, torch.uint64)
} | {name: getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2")}

_REBUILD = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_PARAMETER = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_TENSOR_CALLS = tuple(("torch._utils", name) for name in (*_REBUILD, *_PARAMETER))
_FROM_TYPE = ("torch._tensor", "_rebuild_from_type_v2")


@dataclass(frozen=True)
class _Storage:
    """Elements of one type in the file; `first` and `elements` count in it, for a view of it."""

    key: str
    dtype: torch.dtype
    first: int
    elements: int


def as_tensor_record(value: Any) -> Record | None:
    """Return the record of the plain tensor in `value`, or None if it is no tensor's."""
    for _ in range(4):  # a parameter with attributes is three calls deep
        if not isinstance(value, Record):
            return None
        arguments = value.arguments
        if value.calls(_FROM_TYPE) and isinstance(arguments, tuple) and len(arguments) == 4:
            value = Record(arguments[0], arguments[2])
        elif not value.calls(*_TENSOR_CALLS) or not isinstance(arguments, tuple) or not arguments:
            return None
        elif value.function.name in _PARAMETER:
            value = arguments[0]
        else:
            return value
    return None


class TorchFile(Closes):
    """One file of `torch.save`, open for reading.

    Attributes:
        content: what was saved, as records.
        nbytes: the file's length.
    """

    def __init__(self, path: Path) -> None:
        """Read the pickle and find the storages.

        Raises:
            UnreadablePickleError: the file is not of `torch.save`, or damaged.
        """
        self._path = path
        self.nbytes = path.stat().st_size
        if self.nbytes == 0:
            raise UnreadablePickleError("it is empty")
        with path.open("rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self._places: dict[str, tuple[int, int, int | None]] = {}  # start, length, CRC
            self.content: Any = self._read_zip() if self._map[:4] == _ZIP else self._read_pickles()
        except BaseException:
            self._map.close()
            raise
        self._read: dict[tuple[str, torch.dtype], Tensor] = {}

    def close(self) -> None:
        """Close it; tensors that were read stay."""
        self._map.close()

    def tensor(self, record: Record) -> Tensor:
        """Return the tensor of a record that `as_tensor_record` returned.

        Tensors of one storage share its memory, as they did when they were saved.

        Raises:
            UnreadablePickleError: it reaches beyond its storage, or its storage is not in the file.
        """
        storage, first, size, stride = self._extent(record)
        if 0 in size:
            return torch.empty(size, dtype=storage.dtype)
        elements = self._elements(storage)
        return elements.as_strided(size, stride, storage.first + first)

    def _extent(self, record: Record) -> tuple[_Storage, int, tuple[int, ...], tuple[int, ...]]:
        """Return storage, offset, size and stride of a tensor that lies wholly in its storage."""
        arguments = record.arguments
        if len(arguments) < 4:
            raise UnreadablePickleError("a tensor is not made as torch makes one")
        storage = self._storage(arguments[0])
        if record.function.name == "_rebuild_tensor_v3":
            storage = _retyped(storage, arguments)
        first = _count(arguments[1], "offset")
        size, stride = _sides(arguments[2]), _sides(arguments[3])
        if len(size) != len(stride):
            raise UnreadablePickleError("a tensor has a size and a stride of different lengths")
        last = first + sum((s - 1) * step for s, step in zip(size, stride, strict=True))
        numbers = math.prod(size)
        if numbers and (last >= storage.elements or numbers > storage.elements):
            raise UnreadablePickleError(
                f"a tensor of {list(size)} reaches beyond the {storage.elements} elements of its "
                "storage"
            )
        return storage, first, size, stride

    def _storage(self, value: Any) -> _Storage:
        """Return the storage that a persistent id names."""
        parts = value.id if isinstance(value, PersistentId) else None
        if not isinstance(parts, tuple) or len(parts) not in (5, 6) or parts[0] != "storage":
            raise UnreadablePickleError("a tensor has no storage in this file")
        kind, key, elements = parts[1], parts[2], _count(parts[4], "number of elements")
        dtype = _STORAGES.get(kind.name) if isinstance(kind, Name) else None
        if dtype is None or not kind.module.startswith("torch"):
            raise UnreadablePickleError(f"a storage is of the type {_shown(kind)}")
        if not isinstance(key, str) or key not in self._places:
            raise UnreadablePickleError("a tensor's storage is not in this file")
        view = parts[5] if len(parts) == 6 else None
        if view is None:
            return _Storage(key, dtype, 0, elements)
        if not isinstance(view, tuple) or len(view) != 3:
            raise UnreadablePickleError("a storage's view is not made as torch makes one")
        first, viewed = _count(view[1], "offset"), _count(view[2], "number of elements")
        if first + viewed > elements:
            raise UnreadablePickleError("a view of a storage reaches beyond it")
        return _Storage(key, dtype, first, viewed)

    def _elements(self, storage: _Storage) -> Tensor:
        """Return all elements of a storage, read once."""
        start, length, checksum = self._places[storage.key]
        width, shown = storage.dtype.itemsize, storage.key[:40]
        if length % width or (storage.first + storage.elements) * width > length:
            raise UnreadablePickleError(f"storage {shown} has {length} bytes, not what it says")
        known = self._read.get((storage.key, storage.dtype))
        if known is None:
            content = bytearray(self._map[start : start + length])
            if checksum is not None and zlib.crc32(content) != checksum:
                raise UnreadablePickleError(f"storage {shown} does not fit its checksum")
            known = torch.frombuffer(content, dtype=storage.dtype)
            self._read[storage.key, storage.dtype] = known
        return known

    def _read_zip(self) -> Any:
        try:
            with zipfile.ZipFile(self._path) as archive:
                members = {info.filename: info for info in archive.infolist()}
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise UnreadablePickleError(f"it was cut short or damaged ({error})") from error
        roots = [n.removesuffix("/data.pkl") for n in members if n.endswith("/data.pkl")]
        if len(roots) != 1:
            raise UnreadablePickleError("it is a zip archive, and none of torch.save's")
        root = roots[0]
        if f"{root}/constants.pkl" in members:
            raise UnreadablePickleError("it is a TorchScript program, not its weights")
        order = members.get(f"{root}/byteorder")
        if order is not None and self._member(order)[:3] == b"big":
            raise UnreadablePickleError("its numbers are in the order of big-endian machines")
        folder = f"{root}/data/"
        for name, info in members.items():
            if name.startswith(folder):
                start, length = self._place(info)
                self._places[name.removeprefix(folder)] = (start, length, info.CRC)
        pickle = members[f"{root}/data.pkl"]
        content = self._member(pickle)
        if zlib.crc32(content) != pickle.CRC:
            raise UnreadablePickleError("its data.pkl does not fit its checksum")
        return read(io.BytesIO(content))

    def _place(self, info: zipfile.ZipInfo) -> tuple[int, int]:
        """Return start and length of a member's bytes, which lie in the file as they are."""
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise UnreadablePickleError(
                "it is compressed or encrypted, which torch.save never does"
            )
        header = self._map[info.header_offset : info.header_offset + 30]
        if len(header) != 30 or header[:4] != _ZIP or info.compress_size != info.file_size:
            raise UnreadablePickleError("it is a damaged zip archive")
        names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        start = info.header_offset + 30 + names
        if start + info.file_size > self.nbytes:
            raise UnreadablePickleError("it was cut short")
        return start, info.file_size

    def _member(self, info: zipfile.ZipInfo) -> bytes:
        start, length = self._place(info)
        return self._map[start : start + length]

    def _read_pickles(self) -> Any:
        if self._map[_TAR_PLACE : _TAR_PLACE + 5] == b"ustar":
            raise UnreadablePickleError("it is a tar archive, as PyTorch 0.1 wrote them")
        stream: Any = self._map
        stream.seek(0)
        first = read(stream)
        if type(first) is not int:
            return first
        if first != _MAGIC or read(stream) != _LEGACY_VERSION:
            raise UnreadablePickleError("it is no file of torch.save")
        system = read(stream)
        if isinstance(system, dict) and system.get("little_endian") is False:
            raise UnreadablePickleError("its numbers are in the order of big-endian machines")
        ids: list[PersistentId] = []
        content, keys = read(stream, ids), read(stream)
        if not isinstance(keys, list):
            raise UnreadablePickleError("it does not list its storages")
        widths, place = dict(_widths(ids)), stream.tell()
        for key in keys:
            place = self._legacy_storage(key, widths, place)
        return content

    def _legacy_storage(self, key: Any, widths: dict[str, int], place: int) -> int:
        """Note where a storage's elements lie, and return where they end."""
        start = place + _LENGTH_BYTES
        length = self._map[place:start]
        if not isinstance(key, str) or key not in widths or len(length) != _LENGTH_BYTES:
            raise UnreadablePickleError("its storages are not those that its tensors name")
        size = int.from_bytes(length, "little") * widths[key]
        if start + size > self.nbytes:
            raise UnreadablePickleError("it was cut short")
        self._places[key] = (start, size, None)
        return start + size


def _widths(ids: list[PersistentId]) -> Iterator[tuple[str, int]]:
    """Yield the key and bytes an element of each storage that a pickle names."""
    for reference in ids:
        parts = reference.id
        if isinstance(parts, tuple) and len(parts) > 2 and isinstance(parts[2], str):
            dtype = _STORAGES.get(parts[1].name) if isinstance(parts[1], Name) else None
            if dtype is not None:
                yield parts[2], dtype.itemsize


def _retyped(storage: _Storage, arguments: tuple[Any, ...]) -> _Storage:
    """Return an untyped storage as one of the type that the tensor's call gives."""
    given = arguments[6] if len(arguments) > 6 else None
    dtype = _DTYPES.get(given.name) if isinstance(given, Name) else None
    if dtype is None or storage.dtype is not torch.uint8 or storage.first:
        raise UnreadablePickleError(f"a tensor is of the type {_shown(given)}")
    return _Storage(storage.key, dtype, 0, storage.elements // dtype.itemsize)


def _count(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise UnreadablePickleError(f"a tensor has a {what} that is none")
    return value


def _sides(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > _MOST_SIDES:
        raise UnreadablePickleError("a tensor has a size that is none")
    return tuple(_count(side, "size") for side in value)


def _shown(value: Any) -> str:
    return str(value)[:80] if isinstance(value, Name) else type(value).__name__
