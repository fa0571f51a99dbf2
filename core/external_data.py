"""Graphs of a bundle hold their weights: none names another file.

ONNX lets a tensor say that its bytes lie in another file, by a path that is read beside the model,
or in the working folder if the model came from memory. In a bundle of a stranger's that would be a
way to any file there, so such a graph is refused before anything parses it for use.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import BundleError
from .lazy import require
from .words import for_terminal

__all__ = ["check_self_contained"]

_KEY = b"location"  # without this key there is no external data


def check_self_contained(raw: bytes, file: Path) -> None:
    """Raise `BundleError` if a tensor of the graph `raw`, which is `file`, lies in another file.

    Bytes that are no graph are left to whoever parses them.
    """
    if _KEY not in raw:
        return
    onnx = require("onnx", f"look for external data in {file.name}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(raw)
    except Exception:  # protobuf's DecodeError, whose place depends on its version
        return
    for tensor in _tensors(model, onnx.TensorProto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            place = next((e.value for e in tensor.external_data if e.key == "location"), "nowhere")
            raise BundleError(
                f"{file} has its tensor {_text(tensor.name)!r} in another file "
                f"({_text(place)!r}), and a bundle's graphs hold their weights themselves: "
                "do not use this bundle, and compile the model again."
            )


def _text(name: str | bytes) -> str:
    """Return a name as a terminal may show it; protobuf gives bytes where they are no UTF-8."""
    return for_terminal(name if isinstance(name, str) else name.decode("utf-8", "replace"))


def _tensors(message: Any, kind: type) -> Iterator[Any]:
    """Yield every tensor below `message`: initializers, attributes, in subgraphs and functions."""
    left = [message]
    while left:
        one = left.pop()
        if isinstance(one, kind):
            yield one
            continue
        for field, value in one.ListFields():
            if field.message_type is not None:
                repeated = hasattr(value, "__len__") and not hasattr(value, "ListFields")
                left += list(value) if repeated else [value]
