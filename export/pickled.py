"""Reading a `.pkl` of arrays, as detectron2 publishes weights, without running what it may hold.

A pickle names functions, and loading it calls them. Here it can name the few that NumPy's own
arrays need, and nothing else: any other name ends the loading before anything is called.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core import InputError

__all__ = ["read_pickled_arrays"]


def _encode(text: str, encoding: str) -> bytes:
    """Stand for `codecs.encode`, by which NumPy keeps bytes in old pickles."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding}")
    return text.encode("latin1")


def _array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """Stand for `numpy.core.multiarray._reconstruct`: an empty array, filled by its state."""
    return np.ndarray.__new__(np.ndarray, (0,), np.dtype(np.int8))


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Stand for `numpy.core.numeric._frombuffer`, by which pickles of protocol 5 hold arrays."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
}


class _ArraysAlone(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _ALLOWED.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no array needs")
        return found


def read_pickled_arrays(file: Path) -> Any:
    """Return what `file` holds, arrays as tensors.

    Raises:
        InputError: it holds anything else than arrays, text and numbers in dictionaries.
    """
    try:
        with file.open("rb") as stream:
            content = _ArraysAlone(stream, encoding="latin1").load()
        return _as_tensors(content)
    except Exception as error:  # a damaged pickle raises anything at all
        raise InputError(
            f"weights {file} are no pickle of arrays alone ({str(error)[:120]}): nothing in it was "
            "run; load it where you trust it, and save model.state_dict() to .safetensors."
        ) from error


def _as_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_tensors(v) for key, v in value.items()}
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    return value
