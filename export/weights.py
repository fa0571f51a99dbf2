"""Reading weights: `.safetensors`, `.pth` and `.pkl`, without running code that they might hold.

A file that does not fit is refused with what differs; a detector never starts with some layers
trained and others random.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core import InputError, MaskrtError, require
from .pickled import read_pickled_arrays

__all__ = ["file_sha256", "load_weights", "read_weights"]

_WRAPPERS = ("model", "state_dict", "model_state_dict", "ema")
_SPELLED_OUT = 6  # names in an error, before they are summed up


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors in a weights file by parameter name, as float32 where they are floats.

    Raises:
        InputError: the file is absent, damaged, or holds no tensors.
    """
    file = _existing(path)
    try:
        if file.suffix == ".safetensors":
            safetensors = require("safetensors.torch", f"read {file.name}")
            content: Any = safetensors.load_file(str(file))
        elif file.suffix == ".pkl":
            content = read_pickled_arrays(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except MaskrtError:
        raise
    except Exception as error:  # an unpickler in a file of any kind raises anything at all
        raise InputError(_unreadable(file, error)) from error
    return _tensors(content, file)


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Load `weights` into `model`, all of them or none.

    Args:
        model: receives the weights.
        weights: what `read_weights` returned.
        name: the file's name, for the error.

    Raises:
        InputError: a parameter is missing, unexpected, or of another shape.
    """
    expected = model.state_dict()
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = [key for key in expected if key not in weights and key not in counters]
    unexpected = [key for key in weights if key not in expected]
    reshaped = [k for k in expected if k in weights and expected[k].shape != weights[k].shape]
    faults = [
        *([f"{len(missing)} parameters are missing ({_listed(missing)})"] if missing else []),
        *([f"{len(unexpected)} are unknown ({_listed(unexpected)})"] if unexpected else []),
        *([_shape_fault(reshaped, expected, weights)] if reshaped else []),
    ]
    if faults:
        raise InputError(
            f"weights {name} are not this model's: {', '.join(faults)}; check the model's name and "
            "the number of classes."
        )
    model.load_state_dict(dict(weights), strict=False)


def file_sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits.

    Raises:
        InputError: no such file.
    """
    return hashlib.sha256(_existing(path).read_bytes()).hexdigest()


def _existing(path: Path | str) -> Path:
    """Return `path` if a file is there, or raise `InputError`."""
    file = Path(path)
    if not file.is_file():
        raise InputError(f"weights {file} do not exist: give a .safetensors or .pth file.")
    return file


def _tensors(content: Any, file: Path) -> dict[str, Tensor]:
    """Unwrap a checkpoint, and drop the `module.` that data-parallel training writes."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"weights {file} hold no parameters by name: save model.state_dict().")
    strange = next((key for key in content if not isinstance(key, str)), None)
    if strange is not None:
        raise InputError(
            f"weights {file} hold a parameter called {strange!r}, which is a "
            f"{type(strange).__name__} and no name: save model.state_dict()."
        )
    if not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(
            f"weights {file} hold values that are no tensors: save model.state_dict()."
        )
    return {
        key.removeprefix("module."): value.float() if value.is_floating_point() else value
        for key, value in content.items()
    }


def _shape_fault(
    names: list[str], expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> str:
    name = names[0]
    found, wanted = (list(source[name].shape) for source in (weights, expected))
    first = f"{name}: {found} in the file, not {wanted}"
    others = f"; {_listed(names[1:])}" if len(names) > 1 else ""
    return f"{len(names)} have another shape ({first}{others})"


def _listed(names: list[str]) -> str:
    """Name all of them; where they are many, one pattern for those that differ in numbers."""
    if len(names) <= _SPELLED_OUT:
        return ", ".join(names)
    patterns = Counter(re.sub(r"\d+", "*", name) for name in names)
    return ", ".join(
        pattern if number == 1 else f"{number} of {pattern}" for pattern, number in patterns.items()
    )


def _unreadable(file: Path, error: Exception) -> str:
    """Say what the file is not; the reader's own words are about its code, one name apart."""
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return (
            f"weights {file} cannot be read, because they hold a Python object ({foreign[1]}) "
            "whose code would have to run: save model.state_dict() alone."
        )
    return (
        f"weights {file} cannot be read: the file is neither a .safetensors nor a .pth or .pkl "
        "file that torch reads, or it was cut short; save model.state_dict() to .safetensors or "
        ".pth."
    )
