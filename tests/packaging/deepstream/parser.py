"""DeepStream's parser compiled, called on one frame as nvinfer calls parsers.

nvinfer itself is not here: the parser is compiled against its published structures
(`nvdsinfer_custom_impl.h`) and called by `driver.cpp`.
"""

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskrt.core import InputSpec
from maskrt.packaging import deepstream
from maskrt.packaging.deepstream import PARSER
from maskrt.plugins.adapters.host import host_compiler

__all__ = [
    "CLASSES", "FLOAT", "HALF", "INT32", "SPEC", "Found", "Outputs", "Parse", "compile_parser",
]  # fmt: skip

HERE = Path(__file__).parent
SPEC = InputSpec(96, 128)
CLASSES = 4
FLOAT, HALF, INT32 = 0, 1, 3
Outputs = dict[str, np.ndarray]


class Found(NamedTuple):
    """What the parser found: xyxy boxes, scores, labels, masks `[N, M, M]`."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


class _Layer(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("type", ctypes.c_int), ("dims", ctypes.c_uint * 3),
        ("num_dims", ctypes.c_uint), ("buffer", ctypes.c_void_p),
    )  # fmt: skip


Parse = Callable[..., Found | int]


def compile_parser(folder: Path) -> Parse:
    """Compile the parser without a warning, and return a function that calls it on one frame."""
    source = Path(deepstream.__file__).with_name("nvdsinfer_maskrt.cpp")
    for file, name in ((source, "libnvdsinfer_maskrt.so"), (HERE / "driver.cpp", "driver.so")):
        subprocess.run(
            [host_compiler(), "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared",
             "-fPIC", f"-I{HERE}", "-o", str(folder / name), str(file), "-ldl"],
            check=True,
        )  # fmt: skip
    driver = ctypes.CDLL(str(folder / "driver.so"))

    def call(
        outputs: Outputs,
        spec: InputSpec = SPEC,
        *,
        classes: int = CLASSES,
        threshold: float = 0.0,
        types: dict[str, int] | None = None,
    ) -> Found | int:
        layers = (_Layer * len(outputs))()
        kept = []
        for layer, (name, value) in zip(layers, outputs.items(), strict=True):
            kept.append(np.ascontiguousarray(value))
            layer.name, layer.num_dims = name.encode(), value.ndim
            layer.dims[: value.ndim] = value.shape
            layer.type = (types or {}).get(name, INT32 if value.dtype == np.int32 else FLOAT)
            layer.buffer = kept[-1].ctypes.data
        numbers = np.zeros((256, 9), np.float32)
        side = outputs["masks"].shape[-1] if "masks" in outputs else 1
        masks = np.zeros((256, side, side), np.float32)
        count = driver.parse(
            str(folder / "libnvdsinfer_maskrt.so").encode(), PARSER.encode(), layers, len(layers),
            spec.height, spec.width, classes, ctypes.c_float(threshold),
            numbers.ctypes.data_as(ctypes.c_void_p), masks.ctypes.data_as(ctypes.c_void_p),
        )  # fmt: skip
        if count < 0:
            return int(count)
        rows = numbers[:count]
        assert (rows[:, 6:] == (side, side, side * side * 4)).all()
        boxes = np.concatenate([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]], axis=1)
        return Found(boxes, rows[:, 5], rows[:, 0].astype(np.int64), masks[:count])

    return call
