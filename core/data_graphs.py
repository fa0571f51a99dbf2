"""Graphs of a bundle are data: they hold their weights, and name nothing that could run code.

ONNX lets a tensor say that its bytes lie in another file, by a path that is read beside the model,
or in the working folder if the model came from memory. In a bundle of a stranger's that would be a
way to any file there. And a graph may have nodes of any domain, some of which are code: an
`EPContext` holds another provider's compiled engine or the path of one, `PythonOp` names a Python
function, and a domain of one's own asks for a library. So a graph is refused before anything loads
it for use, unless its tensors are in it and its nodes are

| domain | whose |
|---|---|
| none, `ai.onnx`, `ai.onnx.ml` | ONNX's own |
| `maskrt` | ours |
| `com.microsoft` | ONNX Runtime's own, but for those of the table below |
| any | a function that the file itself defines |

What ONNX Runtime may take for settings of its own, in the model's metadata, is refused as well.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import BundleError
from .lazy import require
from .words import for_terminal

__all__ = ["check_data_alone"]

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "maskrt", "com.microsoft")
# Operators of com.microsoft that carry, name or start compiled code or Python.
_CODE = ("EPContext", "PythonOp", "PythonOpGrad", "TritonOp", "ExternalOp")
_SETTINGS = "ort_config"  # read by ONNX Runtime where ORT_LOAD_CONFIG_FROM_MODEL=1


def check_data_alone(raw: bytes, file: Path) -> None:
    """Raise `BundleError` if the graph `raw`, which is `file`, reaches beyond itself.

    Bytes that are no graph are left to whoever parses them.
    """
    onnx = require("onnx", f"look into {file.name}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(raw)
    except Exception:  # protobuf's DecodeError, whose place depends on its version
        return
    if any(entry.key == _SETTINGS for entry in model.metadata_props):
        raise _refused(file, f"settings for ONNX Runtime in its metadata ({_SETTINGS})")
    own = {(function.domain, function.name) for function in model.functions}
    for one in _parts(model, (onnx.TensorProto, onnx.ValueInfoProto)):
        if isinstance(one, onnx.TensorProto):
            _check_tensor(one, file, onnx.TensorProto.EXTERNAL)
        elif isinstance(one, onnx.NodeProto):
            _check_node(one, file, own)


def _check_tensor(tensor: Any, file: Path, external: int) -> None:
    if tensor.data_location == external or tensor.external_data:
        place = next((e.value for e in tensor.external_data if e.key == "location"), "nowhere")
        raise BundleError(
            f"{file} has its tensor {_text(tensor.name)!r} in another file "
            f"({_text(place)!r}), and a bundle's graphs hold their weights themselves: "
            "do not use this bundle, and compile the model again."
        )


def _text(name: str | bytes) -> str:
    """Return a name as a terminal may show it; protobuf gives bytes where they are no UTF-8."""
    return for_terminal(name if isinstance(name, str) else name.decode("utf-8", "replace"))


def _check_node(node: Any, file: Path, own: set[tuple[str, str]]) -> None:
    if node.op_type in _CODE and node.domain not in ("", "maskrt"):
        raise _refused(file, f"a node {_text(node.op_type)!r}, which carries or names code")
    if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own:
        raise _refused(
            file,
            f"a node {_text(node.op_type)!r} of the domain {_text(node.domain)!r}, "
            "for which a library of code would be needed",
        )


def _refused(file: Path, what: str) -> BundleError:
    return BundleError(
        f"{file} has {what}, and a bundle's graphs are data alone: do not use this bundle, and "
        "compile the model again."
    )


def _parts(message: Any, leaves: tuple[type, ...]) -> Iterator[Any]:
    """Yield every message below `message`, subgraphs and functions included, down to `leaves`."""
    left = [message]
    while left:
        one = left.pop()
        yield one
        if isinstance(one, leaves):
            continue
        for field, value in one.ListFields():
            if field.message_type is not None:
                repeated = hasattr(value, "__len__") and not hasattr(value, "ListFields")
                left += list(value) if repeated else [value]
