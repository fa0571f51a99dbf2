"""Files made to do harm: nothing that they name is called, memory and time stay bounded."""

import io
import os
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from maskrt.core import InputError  # noqa: E402
from maskrt.export.checkpoint.inert_pickle import (  # noqa: E402
    Name,
    Record,
    UnreadablePickleError,
    read,
)
from maskrt.export.weights import read_checkpoint  # noqa: E402

pytestmark = pytest.mark.torch


class _Traced:
    """Unpickled by Python itself, it makes a folder."""

    def __init__(self, folder: Path, way: str) -> None:
        self.folder, self.way = folder, way

    def __reduce__(self) -> Any:
        made = (os.mkdir, (str(self.folder),))
        return {
            "called": made,
            "items": (list, (), None, iter([_Again(made)])),
        }[self.way]


class _Again:
    def __init__(self, made: Any) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return self.made


def _zip(content: Any, pickler: Any = pickle) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, pickle_module=pickler)
    return buffer.getvalue()


def _legacy(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[Any], bytes]] = {
    "zip": _zip, "legacy": _legacy, "pickle": lambda content: pickle.dumps(content, 4)
}  # fmt: skip


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("place", ["beside", "as a weight", "as all", "as an array's dtype"])
@pytest.mark.parametrize("way", ["called", "items"])
def test_nothing_is_called(tmp_path: Path, file_format: str, place: str, way: str) -> None:
    trace, file = tmp_path / "trace", tmp_path / "w.pth"
    harm = _Traced(trace, way)
    weight = torch.zeros(2) if file_format != "pickle" else np.zeros(2, np.float32)
    content: Any = {
        "beside": {"model": {"w": weight}, "args": harm},
        "as a weight": {"model": {"w": weight, "x": harm}},
        "as all": harm,
        "as an array's dtype": {"model": {"w": weight, "x": np.array([harm], dtype=object)}},
    }[place]
    file.write_bytes(FORMATS[file_format](content))
    try:
        assert read_checkpoint(file).tensors["w"].tolist() == [0, 0]
        assert place == "beside"
    except InputError:
        assert place != "beside"
    assert not trace.exists()
    if file_format == "pickle":  # the trace is real: Python's own unpickler leaves it
        pickle.loads(file.read_bytes())
        assert trace.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nmkdir\n(S'%s'\ntR.",
        b"(cos\nmkdir\nS'%s'\no.",
        b"(S'%s'\nios\nmkdir\n.",
        b"\x80\x02cos\nmkdir\nX%sR.",
        b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93X%sR.",
        b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93X%s\x81.",
        b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93X%s}\x92.",
        b"\x80\x02cbuiltins\nobject\n)\x81X%sb.",
    ],
)
def test_every_instruction_that_calls_makes_a_record(tmp_path: Path, program: bytes) -> None:
    folder = str(tmp_path / "trace").encode()
    text = struct.pack("<I", len(folder)) + folder + b"\x85"
    given = text if b"X%s" in program else folder
    found = read(io.BytesIO(program.replace(b"%s", given)))
    assert isinstance(found, Record)
    assert found.function in (Name("os", "mkdir"), Name("builtins", "object"))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02\x82\x01.",  # the extension registry may hold a real function
        b"\x80\x05\x97.",  # a buffer from outside
        b"\x80\x02]K\x01K\x02s.",  # an entry of a list
        b"\x80\x02K\x01K\x02a.",  # added to a number
        b"\x80\x02(.",
        b"\x80\x02R.",
        b"\x80\x02\x87.",
        b"\x80\x02h\x07.",
        b"\x80\x04K\x01K\x02\x93.",
        b"",
        b"not a pickle",
        b"I" + b"9" * 10_000 + b"\n.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",
    ],
)
def test_broken_programs_are_told(program: bytes) -> None:
    with pytest.raises(UnreadablePickleError):
        read(io.BytesIO(program))


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",  # [[[[]]]]
        b"\x80\x02N" + b"\x85" * 20_000 + b".",  # ((((None,),),),)
        b"\x80\x02)" + b"2\x86" * 10_000 + b".",  # t = (t, t): its hash would take for ever
        b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.",  # the same as a key
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # remembered far away
    ],
)
def test_deep_and_doubled_structures_cost_what_they_are_long(program: bytes) -> None:
    start = time.monotonic()
    tracemalloc.start()
    found = read(io.BytesIO(program))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del found
    assert peak < 2_000 * len(program) + 1_000_000
    assert time.monotonic() - start < 30


def _tensor(
    storage: Any, first: Any, size: Any, stride: Any, call: str = "_rebuild_tensor_v2"
) -> Any:
    """A tensor's record in a file of two floats, for `_Crafted` to write."""
    return _Call("torch._utils", call, (storage, first, size, stride, False, {}))


class _Call:
    def __init__(self, module: str, name: str, arguments: Any) -> None:
        self.module, self.name, self.arguments = module, name, arguments


class _Storage:
    def __init__(self, *id: Any) -> None:
        self.id = id


def _crafted(value: Any) -> bytes:
    """Pickle lists, tuples, dictionaries, text, numbers, calls and persistent ids by hand."""
    if isinstance(value, _Call):
        return f"c{value.module}\n{value.name}\n".encode() + _crafted(value.arguments) + b"R"
    if isinstance(value, _Storage):
        return _crafted(value.id) + b"Q"
    if isinstance(value, Name):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, tuple | list):
        kind = b"t" if isinstance(value, tuple) else b"l"
        return b"(" + b"".join(map(_crafted, value)) + kind
    if isinstance(value, dict):
        return b"(" + b"".join(_crafted(k) + _crafted(v) for k, v in value.items()) + b"d"
    return pickle.dumps(value, 2)[2:-1]


def _archive(file: Path, content: Any, members: dict[str, bytes], **options: Any) -> None:
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + _crafted(content) + b".")
        for name, data in members.items():
            archive.writestr(f"archive/{name}", data)


FLOATS = Name("torch", "FloatStorage")
TWO = _Storage("storage", FLOATS, "0", "cpu", 2)
DATA = {"data/0": struct.pack("<2f", 1, 2)}


def test_crafted_file_is_well_made(tmp_path: Path) -> None:
    _archive(tmp_path / "w.pth", {"w": _tensor(TWO, 0, (2,), (1,))}, DATA)
    assert read_checkpoint(tmp_path / "w.pth").tensors["w"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (_tensor(TWO, 1, (2,), (1,)), "reaches beyond"),
        (_tensor(TWO, 0, (3,), (1,)), "reaches beyond"),
        (_tensor(TWO, 0, (2, 2), (1, 1)), "reaches beyond"),
        (_tensor(TWO, 0, (1 << 40, 1 << 40), (0, 0)), "reaches beyond"),
        (_tensor(TWO, 0, (2,), (1 << 60,)), "reaches beyond"),
        (_tensor(TWO, -1, (1,), (1,)), "has a offset that is none"),
        (_tensor(TWO, 1, (2,), (-1,)), "has a size that is none"),
        (_tensor(TWO, True, (1,), (1,)), "has a offset that is none"),
        (_tensor(TWO, 0, (1.0,), (1,)), "has a size that is none"),
        (_tensor(TWO, 0, [2], (1,)), "has a size that is none"),
        (_tensor(TWO, 0, (1,) * 65, (1,) * 65), "has a size that is none"),
        (_tensor(TWO, 0, (2,), ()), "different lengths"),
        (_tensor(_Storage("storage", FLOATS, "0", "cpu", 3), 0, (3,), (1,)), "not what it says"),
        (_tensor(_Storage("storage", FLOATS, "1", "cpu", 2), 0, (2,), (1,)), "not in this file"),
        (_tensor(_Storage("storage", FLOATS, "../0", "cpu", 2), 0, (2,), (1,)), "not in this file"),
        (_tensor(_Storage("module", FLOATS, "0", "cpu", 2), 0, (2,), (1,)), "no storage"),
        (_tensor(_Storage("storage", Name("os", "FloatStorage"), "0", "cpu", 2), 0, (2,), (1,)),
         "of the type os.FloatStorage"),
        (_tensor("0", 0, (2,), (1,)), "no storage"),
        (_tensor(TWO, 0, (2,), (1,), "_rebuild_tensor_v3"), "of the type NoneType"),
        (_Call("torch._utils", "_rebuild_tensor_v2", (TWO,)), "not made as torch makes one"),
    ],
)  # fmt: skip
def test_tensor_beyond_its_storage_is_refused(tmp_path: Path, tensor: Any, words: str) -> None:
    _archive(tmp_path / "w.pth", {"w": tensor}, DATA)
    with pytest.raises(InputError, match=words):
        read_checkpoint(tmp_path / "w.pth")


def test_many_names_of_one_storage_cost_its_memory_once(tmp_path: Path) -> None:
    """As halves, which become floats: a thousand copies would be 4 GB."""
    count, names = 1 << 20, 1000
    half = _Storage("storage", Name("torch", "HalfStorage"), "0", "cpu", count)
    same = {f"w{i}": _tensor(half, 0, (count,), (1,)) for i in range(names)}
    _archive(tmp_path / "same.pth", same, {"data/0": bytes(2 * count)})
    found = read_checkpoint(tmp_path / "same.pth").tensors
    assert len({tensor.data_ptr() for tensor in found.values()}) == 1
    other = {f"w{i}": _tensor(half, i, (count - names,), (1,)) for i in range(names)}
    _archive(tmp_path / "other.pth", other, {"data/0": bytes(2 * count)})
    with pytest.raises(InputError, match="far larger than the file"):
        read_checkpoint(tmp_path / "other.pth")


def test_zip_bomb_is_refused(tmp_path: Path) -> None:
    big = {"data/0": bytes(1 << 26)}
    storage = _Storage("storage", FLOATS, "0", "cpu", 1 << 24)
    content = {"w": _tensor(storage, 0, (1 << 24,), (1,))}
    _archive(tmp_path / "w.pth", content, big, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="compressed or encrypted"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"constants.pkl": b""}, "TorchScript program"),
        ({"byteorder": b"big"}, "big-endian"),
        ({"x/data.pkl": b""}, "none of torch.save's"),
    ],
)
def test_other_archives_are_told(tmp_path: Path, members: dict[str, bytes], words: str) -> None:
    _archive(tmp_path / "w.pth", {"w": _tensor(TWO, 0, (2,), (1,))}, {**DATA, **members})
    with pytest.raises(InputError, match=words):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("make", [_zip, _legacy])
def test_file_cut_or_altered_anywhere_is_told(tmp_path: Path, make: Any) -> None:
    """Never another error than ours, and never other numbers where a checksum is kept."""
    state = {"a.weight": torch.arange(20.0), "b": torch.arange(6).reshape(2, 3)}
    whole = make({"model": state, "epoch": 3})
    file = tmp_path / "w.pth"
    for length in range(0, len(whole) - 1, max(len(whole) // 60, 1)):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_checkpoint(file)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 300):
        altered = bytearray(whole)
        altered[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(altered)
        try:
            found = read_checkpoint(file).tensors
        except InputError:
            continue
        if make is _zip and found.keys() == state.keys():
            assert all(torch.equal(found[name], state[name]) for name in state)


def _array(shape: Any, code: Any, raw: Any) -> Any:
    """NumPy's array as protocol 5 pickles it; shape, type and bytes may disagree."""
    dtype = _Call("numpy", "dtype", (code, False, True))
    return _Call("numpy.core.numeric", "_frombuffer", (raw, dtype, shape, "C"))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (_array((2,), "f4", b"1234"), "has 4 bytes"),
        (_array((1 << 40, 1 << 40), "f4", b""), "far larger than the file"),
        (_array((1 << 40,), "f4", b""), "far larger than the file"),
        (_array((-1,), "f4", b""), "shape that is none"),
        (_array((1,), "O8", b"12345678"), "holds 'O8', which are no plain numbers"),
        (_array((1,), "V1000000000", b""), "no plain numbers"),
        (_array((1,), ["f4"], b"1234"), "holds 'list', which are no plain numbers"),
        (_array((1,), "f4", [1]), "no bytes, but a list"),
        (_array((1,), "f4", "\u8000abc"), "letters in the place of bytes"),
        (_Call("numpy.core.multiarray", "_reconstruct", ()), "not made as NumPy makes one"),
    ],
)
def test_array_that_is_none_is_refused(tmp_path: Path, array: Any, words: str) -> None:
    file = tmp_path / "w.pkl"
    file.write_bytes(b"\x80\x02" + _crafted({"w": array}) + b".")
    with pytest.raises(InputError, match=words):
        read_checkpoint(file)


@pytest.mark.parametrize("shape", [(), (0, 4), (1 << 40, 0), (7,)])
def test_weights_of_absurd_shapes_raise_nothing_but_ours(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    """The names of every project, and shapes that no model has."""
    from maskrt.export.source import load_source

    from ..families import published

    file = tmp_path / "w.pth"
    for names, model in (
        (published.mask_rcnn_detectron2(4), "maskrt:maskrcnn_r50_detectron2"),
        (published.condinst_adelaidet(4), "maskrt:condinst_r50"),
        (published.yolact_mmdet(4), "maskrt:yolact_r50"),
    ):
        torch.save({name: torch.zeros(shape) for name, _ in names}, file)
        with torch.device("meta"), pytest.raises(InputError):
            load_source(model, weights=file, num_classes=None)
