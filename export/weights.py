"""Reading weights: `.safetensors`, checkpoints of PyTorch and pickles of arrays, running nothing.

A file that does not fit is refused with what differs; a detector never starts with some layers
trained and others random.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core import InputError, MaskrtError, require
from .asked import existing_weights
from .checkpoint.arrays import array_bytes, array_of, is_array
from .checkpoint.inert_pickle import Name, Record, UnreadablePickleError
from .checkpoint.parts import Part, weights_part
from .checkpoint.torch_file import TorchFile, as_tensor_record

__all__ = [
    "Checkpoint",
    "load_weights",
    "misfit",
    "printable",
    "read_checkpoint",
    "read_weights",
]

_SPELLED_OUT = 6  # names in an error, before they are summed up
_MOST_TIMES_THE_FILE = 8  # bytes of weights to bytes of file, before it is taken for an attack
_FREE_BYTES = 1 << 20
_PLAIN = r"[\w.-]{1,100}"  # a name that a command can hold


@dataclass(frozen=True)
class Checkpoint:
    """What a weights file holds.

    Attributes:
        tensors: by parameter name, as float32 where they are floats.
        about: for the manifest: `part`, the keys that lead to them; `averaged`, true for EMA
            weights; `beside`, the key of the other weights. Each only where there is something.
    """

    tensors: dict[str, Tensor]
    about: dict[str, Any] = field(default_factory=dict)


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors in a weights file by parameter name, as float32 where they are floats.

    Raises:
        InputError: the file is absent, damaged, or holds no tensors.
    """
    return read_checkpoint(path).tensors


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Return the weights in a file, and where in it they lie.

    Raises:
        InputError: the file is absent, damaged, or holds no tensors by name.
    """
    file = existing_weights(path)
    if file.suffix == ".safetensors":
        safetensors = require("safetensors.torch", f"read {file.name}")
        try:
            held = safetensors.load_file(str(file))
        except MaskrtError:
            raise
        except Exception as error:  # a damaged file raises anything at all
            raise InputError(_unreadable(file, "it is no .safetensors file")) from error
        return Checkpoint({name: _as_float(tensor) for name, tensor in held.items()})
    try:
        with TorchFile(file) as opened:
            return _from_pickle(opened, file)
    except UnreadablePickleError as error:
        raise InputError(_unreadable(file, str(error))) from error
    except OSError as error:
        raise InputError(_unreadable(file, error.strerror or str(error))) from error


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Load `weights` into `model`, all of them or none.

    Args:
        model: receives the weights.
        weights: what `read_weights` returned.
        name: the file's name, for the error.

    Raises:
        InputError: a parameter is missing, unexpected, or of another shape.
    """
    faults = misfit(model, weights)
    if faults:
        raise InputError(
            f"weights {name} are not this model's: {', '.join(faults)}; check the model's name and "
            "the number of classes."
        )
    model.load_state_dict(dict(weights), strict=False)


def misfit(model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Return what keeps `weights` from being those of `model`; empty if they are."""
    expected = model.state_dict()
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = [key for key in expected if key not in weights and key not in counters]
    unexpected = [key for key in weights if key not in expected]
    reshaped = [k for k in expected if k in weights and expected[k].shape != weights[k].shape]
    return [
        *([f"{len(missing)} parameters are missing ({_listed(missing)})"] if missing else []),
        *([f"{len(unexpected)} are unknown ({_listed(unexpected)})"] if unexpected else []),
        *([_shape_fault(reshaped, expected, weights)] if reshaped else []),
    ]


def _from_pickle(opened: TorchFile, file: Path) -> Checkpoint:
    """Return the weights among all that a training program saved."""
    part = weights_part(opened.content, _is_weight)
    if part is None:
        raise InputError(_without_weights(opened.content, file))
    _check_names(part, file)
    about: dict[str, Any] = {"part": printable(".".join(part.path))} if part.path else {}
    if part.averaged:
        about["averaged"] = True
    if part.beside:
        about["beside"] = part.beside
    return Checkpoint(_Weights(opened).tensors(part.values), about)


def _is_weight(value: Any) -> bool:
    return is_array(value) or as_tensor_record(value) is not None


def _check_names(part: Part, file: Path) -> None:
    for key, value in part.values.items():
        if not isinstance(key, str):
            shown = f"{key!r}, which is " if isinstance(key, int | float) else ""
            raise InputError(
                f"weights {file} hold a parameter called {shown}a {type(key).__name__} and no "
                "name: save model.state_dict()."
            )
        if not _is_weight(value):
            raise InputError(
                f"weights {file} hold a value that is no tensor ({printable(key[:80])}: "
                f"{_kind(value)}): save model.state_dict()."
            )


class _Weights:
    """Tensors of one file, each made once, and no more of them than its length can explain."""

    def __init__(self, opened: TorchFile) -> None:
        self._opened = opened
        self._left = _MOST_TIMES_THE_FILE * opened.nbytes + _FREE_BYTES
        self._made: dict[Any, Tensor] = {}

    def tensors(self, values: Mapping[str, Any]) -> dict[str, Tensor]:
        return {name: self._tensor(value) for name, value in values.items()}

    def _tensor(self, value: Any) -> Tensor:
        record = as_tensor_record(value)
        if record is None:
            if id(value) not in self._made:
                self._take(2 * array_bytes(value))  # the bytes, and the array
                self._made[id(value)] = self._as_float(torch.from_numpy(array_of(value)))
            return self._made[id(value)]
        tensor = self._opened.tensor(record)
        key = (tensor.data_ptr(), tensor.dtype, tensor.size(), tensor.stride())
        if key not in self._made:
            self._made[key] = self._as_float(tensor)
        return self._made[key]

    def _as_float(self, tensor: Tensor) -> Tensor:
        if tensor.is_floating_point() and tensor.dtype is not torch.float32:
            self._take(4 * tensor.numel())
        return _as_float(tensor)

    def _take(self, nbytes: int) -> None:
        self._left -= nbytes
        if self._left < 0:
            raise UnreadablePickleError("its tensors are far larger than the file")


def _as_float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _without_weights(content: Any, file: Path) -> str:
    """Say what a file holds in the place of parameters by name, and how to get at those."""
    if _is_weight(content):
        return f"weights {file} hold one tensor, and no names: save model.state_dict()."
    entries = content if isinstance(content, dict) else {}
    objects = {key: value for key, value in entries.items() if isinstance(value, Record)}
    named = (key for key in (*("ema", "model", "state_dict", "net"), *objects) if key in objects)
    path = next((key for key in named if isinstance(key, str)), None)
    found = content if isinstance(content, Record) else objects.get(path)
    if found is None:
        held = printable(", ".join(str(key)[:30] for key in list(entries)[:_SPELLED_OUT]))
        return (
            f"weights {file} hold no parameters by name"
            f"{f' (but {held})' if held else ''}: save model.state_dict()."
        )
    name = file.name if re.fullmatch(_PLAIN, file.name) else "FILE"
    inside = f"['{path if re.fullmatch(_PLAIN, path) else 'KEY'}']" if path else ""
    return (
        f"weights {file} hold a Python object ({_kind(found)}) whose code would have to run, and "
        'nothing of it was: where you trust the file and have that code, run python -c "import '
        f"torch; torch.save(torch.load('{name}', weights_only=False){inside}.state_dict(), "
        "'weights.pth')\" and give weights.pth."
    )


def _kind(value: Any) -> str:
    """Name the type of a value, of a record what would have been called."""
    if not isinstance(value, Record):
        return type(value).__name__
    arguments = value.arguments if isinstance(value.arguments, tuple) else ()
    first = arguments[0] if arguments else None
    remade = value.function == Name("copyreg", "_reconstructor") and isinstance(first, Name)
    named = first if remade else value.function
    return printable(str(named)[:100]) if isinstance(named, Name) else "of an unknown kind"


def printable(text: str) -> str:
    """Return `text` as a terminal may print it, whatever a file's author put into a name."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _shape_fault(
    names: list[str], expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> str:
    name = names[0]
    found, wanted = (list(source[name].shape) for source in (weights, expected))
    first = f"{printable(name[:200])}: {found} in the file, not {wanted}"
    others = f"; {_listed(names[1:])}" if len(names) > 1 else ""
    return f"{len(names)} have another shape ({first}{others})"


def _listed(names: list[str]) -> str:
    """Name all of them; where they are many, one pattern for those that differ in numbers."""
    names = [printable(name[:200]) for name in names]
    if len(names) <= _SPELLED_OUT:
        return ", ".join(names)
    patterns = Counter(re.sub(r"\d+", "*", name) for name in names)
    return ", ".join(
        pattern if number == 1 else f"{number} of {pattern}" for pattern, number in patterns.items()
    )


def _unreadable(file: Path, reason: str) -> str:
    return (
        f"weights {file} cannot be read, because {printable(reason)}; nothing in it was run: save "
        "model.state_dict() to .safetensors or .pth."
    )
