"""Readers of weights: `torch.save`'s three forms, pickles of arrays, `.safetensors`."""

import collections
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from .damage import archive, as_bytes, as_json, either, within
from .reader import Reader

__all__ = ["CHECKPOINT_READERS"]

# Instructions of pickles, with arguments that fit them or do not.
_STEPS = (
    b"(", b")", b"0", b"1", b"2", b"}", b"]", b"N", b"\x88", b"\x85", b"\x86", b"\x87", b"R", b"b",
    b"s", b"u", b"a", b"e", b"t", b"l", b"d", b"o", b"\x81", b"\x92", b"\x93", b"\x94", b"\x90",
    b"\x8f", b"Q", b"q\0", b"h\0", b"h\xff", b"r\xff\xff\xff\xff", b"j\0\0\0\x80", b"K\xff",
    b"J\xff\xff\xff\xff", b"M\xff\xff", b"\x8a\xff" + b"\xff" * 255, b"\x8b\xff\xff\xff\x7f",
    b"X\xff\xff\xff\x7f", b"X\1\0\0\0\xff", b"\x8c\1a", b"cos\nsystem\n", b"ibuiltins\neval\n",
    b"Pid\n", b"I99999999999999999999\n", b"F1e999\n", b"S'x'\n", b"V\\ud800\n", b"g99\n", b"p0\n",
    b"ccollections\nOrderedDict\n", b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x80\x7f", b".",
    b"C\x04abcd", b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", b"cnumpy\ndtype\n", b"\x82\1", b"\x97",
)  # fmt: skip


def _as_pickle(data: bytes, dice: Random) -> bytes:
    """Put instructions in, take some out."""
    if dice.random() < 0.4:
        return as_bytes(data, dice)
    raw = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4))):
        at = dice.randrange(len(raw) + 1)
        step = dice.choice(_STEPS) * dice.choice((1, 1, 1, 2, 300))
        raw[at : at + dice.choice((0, 0, 1, len(step)))] = step
    return bytes(raw)


def _state() -> Any:
    import torch

    state = collections.OrderedDict()
    state["conv.weight"] = torch.arange(24, dtype=torch.float32).reshape(2, 3, 2, 2)
    state["conv.bias"] = torch.ones(2, dtype=torch.float16)
    state["norm.num_batches_tracked"] = torch.tensor(7)
    state["shared"] = state["conv.weight"].view(-1)[3:9]
    return state


def _saved(**how: Any) -> list[bytes]:
    import torch

    found = []
    state = _state()
    optimizer: dict[str, Any] = {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.1}]}
    prefixed = {f"m.{name}": tensor for name, tensor in state.items()}
    for content in (state, {"model": state, "epoch": 3, "optimizer": optimizer},
                    {"meta": {"a": (1, 2)}, "state_dict": prefixed}):  # fmt: skip
        buffer = io.BytesIO()
        torch.save(content, buffer, **how)
        found.append(buffer.getvalue())
    return found


def _arrays() -> list[bytes]:
    content = {
        "model": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "f": np.ones((2, 2), ">f8")},
        "__author__": "x",
    }
    content["model"]["c"] = np.asfortranarray(np.arange(6, dtype=np.int64).reshape(3, 2))
    return [pickle.dumps(content, protocol) for protocol in (0, 2, 4, 5)]


def _tensors() -> list[bytes]:
    from safetensors.torch import save

    state = {name: tensor.clone() for name, tensor in _state().items()}
    return [save(state), save(state, {"format": "pt"})]


def _header(data: bytes) -> tuple[int, int]:
    return 8, 8 + int.from_bytes(data[:8], "little")


def _read(suffix: str) -> Callable[[bytes, Path], object]:
    def read(data: bytes, folder: Path) -> object:
        from maskrt.export.weights import read_checkpoint

        file = folder / f"w{suffix}"
        file.write_bytes(data)
        found = read_checkpoint(file).tensors
        return [tensor.sum() for tensor in list(found.values())[:4]]

    return read


CHECKPOINT_READERS = [
    Reader(".pth", _saved, _read(".pth"),
           archive({"data.pkl": _as_pickle, "": as_bytes}), cost=3, needs="torch"),
    Reader(".pth before 1.6", lambda: _saved(_use_new_zipfile_serialization=False), _read(".pth"),
           _as_pickle, cost=1.5, needs="torch"),
    Reader(".pkl", _arrays, _read(".pkl"), _as_pickle, cost=1.5, needs="torch"),
    Reader(".safetensors", _tensors, _read(".safetensors"),
           either(within(_header, as_json, 8), as_bytes), cost=1.5, needs="torch"),
]  # fmt: skip
