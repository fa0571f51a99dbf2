"""What a file says about itself: names of classes, who wrote it. Hints, and never a proof.

Ultralytics writes its class names as a Python dictionary, others as JSON; both number from 0.
"""

import ast
import contextlib
from dataclasses import dataclass

import onnx

from ...core.typed_files import plain_json

__all__ = ["Hints", "hints_of"]


@dataclass(frozen=True)
class Hints:
    """What the metadata of a file says.

    Attributes:
        names: class names, from the first on, without a background; None if there are none.
        writer: the program, its version and the model, as a message puts it; "" if not said.
        family: the model's family in the writer's word, in small letters; "" if not said.
        task: in the writer's word; "" if not said.
    """

    names: tuple[str, ...] | None = None
    writer: str = ""
    family: str = ""
    task: str = ""


def hints_of(model: onnx.ModelProto) -> Hints:
    """Return what `model` says about itself; what cannot be read is left out."""
    said = {entry.key: entry.value for entry in model.metadata_props}
    words = [said.get("description", "").strip()]
    if "version" in said and said.get("author"):
        words.append(f"{said['author']} {said['version']}")
    if "libreyolo_version" in said:
        words.append(f"libreyolo {said['libreyolo_version']}")
    family = said.get("model_family", "").lower()
    writer = ", ".join(word for word in words if word)
    return Hints(_names(said.get("names", "")), writer, family, said.get("task", ""))


def _names(text: str) -> tuple[str, ...] | None:
    found = _read(text) if 0 < len(text) < 1 << 20 else None
    if isinstance(found, dict):
        try:
            numbered = {int(key): str(name) for key, name in found.items()}
        except (TypeError, ValueError):
            return None
        if sorted(numbered) != list(range(len(numbered))):
            return None
        found = [numbered[index] for index in range(len(numbered))]
    if not isinstance(found, list) or not found:
        return None
    return tuple(map(str, found))


def _read(text: str) -> object:
    with contextlib.suppress(ValueError):
        return plain_json(text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
