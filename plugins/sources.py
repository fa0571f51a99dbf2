"""Which source files an engine's operators came from, as one digest.

An engine that holds our kernels, or takes them from here when it is loaded, must have been built
from the same ones. Line endings are not counted, since a checkout may change them.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import onnx

from ..core import UnsupportedModelError
from ..core.operator_names import operator_of
from .bodies import OPERATORS
from .operator import DOMAIN, Operator

__all__ = ["operators_of", "sources_digest"]

_FOLDER = Path(__file__).resolve().parent
_KERNELS = ("plugins", "aot")  # forms that run kernel.cu; the others are one Python file


def operators_of(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of the `maskrt` operators in a graph, each once, sorted."""
    found = {operator_of(node.op_type) for node in model.graph.node if node.domain == DOMAIN}
    return tuple(sorted(found))


def sources_digest(operators: Iterable[str], form: str) -> str:
    """Return the SHA-256 of the sources of `operators`, as `form` uses them.

    Args:
        operators: names, such as `"BatchedNMS"`.
        form: `"plugins"` or `"aot"` for kernels and their launch plans; `"function"`,
            `"pluginless"` or `"builtin"` for that body.

    Raises:
        UnsupportedModelError: this version does not know one of them.
    """
    digest = hashlib.sha256()
    for file in _files(sorted(operators), form):
        text = file.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{file.relative_to(_FOLDER).as_posix()} {len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()


def _files(names: list[str], form: str) -> list[Path]:
    kernels = form in _KERNELS
    own = ("kernel.cu", "launch.py", "schema.py") if kernels else (f"{form}.py", "schema.py")
    folders = [_FOLDER / _operator(name).folder for name in names]
    shared = sorted((_FOLDER / "cuda").glob("*.cuh")) if kernels and names else []
    return [*shared, *(f for d in folders for name in own if (f := d / name).is_file())]


def _operator(name: str) -> Operator:
    if name not in OPERATORS:
        raise UnsupportedModelError(
            f"this version does not know the operator maskrt::{name}: it knows "
            f"{', '.join(OPERATORS)}."
        )
    return OPERATORS[name]
