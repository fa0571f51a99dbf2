"""Weights in a file beside the graph: all there, before anything reads them.

ONNX lets a tensor name a file, an offset and a length. A copy that stopped halfway, or a file of
another export under the same name, is what people have; the message says how much is missing.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import helper

from ...core import InputError

__all__ = ["check_external_weights"]


def check_external_weights(model: onnx.ModelProto, file: Path) -> None:
    """Raise `InputError` if a tensor of `model`, read from `file`, lies beyond its own file's end.

    Files that are not there are left to whoever reads them, and so are tensors of no known type.
    """
    for tensor in _elsewhere(model.graph):
        said = {entry.key: entry.value for entry in tensor.external_data}
        place, needed = file.parent / said.get("location", ""), _bytes(tensor)
        if needed is None or not place.is_file():
            continue
        start, length = int(said.get("offset", 0)), int(said.get("length", needed))
        size = place.stat().st_size
        if length != needed:
            raise InputError(
                f"{file} keeps its weights in {place.name}, which is not the file that it was "
                f"written with: {tensor.name[:80]!r} has {length} bytes there and needs {needed}; "
                "export both again."
            )
        if start < 0 or start + length > size:
            raise InputError(
                f"{file} keeps its weights in {place.name}, which is cut short: it has {size} "
                f"bytes, and {tensor.name[:80]!r} ends at {start + length}; copy both files again."
            )


def _bytes(tensor: onnx.TensorProto) -> int | None:
    """Return what the numbers of `tensor` take, of which those of four bits lie two to a byte.

    Returns:
        None for a type that is none, and is refused where tensors are read.
    """
    if tensor.data_type not in onnx.TensorProto.DataType.values():
        return None
    bits = 4 if onnx.TensorProto.DataType.Name(tensor.data_type).endswith("INT4") else 0
    try:
        bits = bits or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:  # UNDEFINED
        return None
    return -(-math.prod(tensor.dims) * bits // 8)


def _elsewhere(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    tensors = [*graph.initializer]
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t] if attribute.HasField("t") else []
            if attribute.HasField("g"):
                yield from _elsewhere(attribute.g)
    yield from (t for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL)
