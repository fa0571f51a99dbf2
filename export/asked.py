"""What is asked of the export stage, checked as far as that goes without torch.

Importing torch takes seconds, and a wrong word should not cost them. So the words for a model, its
weights and what a bundle says of both are looked at here first; what only torch or the model itself
can tell is left to `source.py`, which asks the same questions in the same sentences.
"""

import hashlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from ..core import InputError, Manifest, UsageError, suggestion
from .zoo import TIMM_PREFIX, ZOO

__all__ = [
    "check_follows",
    "check_model",
    "check_num_classes",
    "check_reference",
    "existing_weights",
    "file_sha256",
    "split_words",
]

_WEIGHTS = (".pth", ".pt", ".ckpt", ".safetensors", ".pkl", ".bin")
_OWN_SCHEMES = ("torchvision", "maskrt")  # looked up in a list of names, never imported by name
_REGISTERED = re.compile(r"^@register_model\(\)[\s\S]*?^def (\w+)\(", re.MULTILINE)


def check_model(model: Any) -> None:
    """Raise `UsageError` if MODEL cannot be one.

    Args:
        model: words, or a module; modules are believed.
    """
    if isinstance(model, str):
        _check_words(model)
        return
    module = getattr(sys.modules.get("torch.nn"), "Module", None)
    if module is None or not isinstance(model, module):
        raise UsageError(
            f"model is {model!r}, and must be words such as torchvision:NAME or a torch.nn.Module."
        )


def split_words(words: str) -> tuple[str, str]:
    """Return the scheme or package and the name of `SCHEME:NAME`, or raise `UsageError`."""
    if words.lower().endswith(_WEIGHTS):
        raise UsageError(
            f"model {words!r} is a file of weights, and does not say which network they are of: "
            "name that, such as torchvision:maskrcnn_resnet50_fpn, and give the file as weights=."
        )
    scheme, _, name = words.partition(":")
    if not scheme or not name:
        raise UsageError(
            f"model {words!r} is not understood: give torchvision:NAME, maskrt:NAME or "
            "package.module:factory."
        )
    return scheme, name


def _check_words(words: str) -> None:
    scheme, name = split_words(words)
    if scheme == "torchvision":
        known = _torchvision_detectors()
        if known and name not in known:
            raise UsageError(f"torchvision has no detector {name!r}: {suggestion(name, known)}")
    elif scheme == "maskrt":
        if not name.startswith(TIMM_PREFIX) and name not in ZOO:
            raise UsageError(f"maskrt has no model {name!r}: {suggestion(name, ZOO)}")
    else:
        _check_package(words, scheme.partition(".")[0])


def _torchvision_detectors() -> list[str]:
    """Return the names of torchvision's detectors, read from its files; empty if that fails."""
    spec = importlib.util.find_spec("torchvision")
    found: set[str] = set()
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        for file in Path(folder, "models", "detection").glob("*.py"):
            found.update(_REGISTERED.findall(file.read_text(encoding="utf-8", errors="replace")))
    return sorted(found)


def _check_package(words: str, package: str) -> None:
    """Raise `UsageError` if no package of that name is there, the working folder included."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        there = package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        there = False
    if not there:
        raise UsageError(
            f"model {words!r} cannot be imported: No module named {package!r}, and none lies in "
            "the working folder."
        )


def check_num_classes(num_classes: int | None, model: Any) -> None:
    """Raise `UsageError` for a number of classes that no detector has, or beside a module."""
    if num_classes is None:
        return
    if not isinstance(model, str):
        raise UsageError(
            f"num_classes is {num_classes}, and a {type(model).__name__} object already has its "
            "classes: leave it out."
        )
    if num_classes < 2:
        raise UsageError(
            f"num_classes is {num_classes}, and must be at least 2: the background counts as one."
        )


def existing_weights(path: Path | str) -> Path:
    """Return `path` if a file is there, or raise `InputError`."""
    file = Path(path)
    if not file.is_file():
        raise InputError(f"weights {file} do not exist: give a .safetensors or .pth file.")
    return file


def file_sha256(path: Path | str) -> str:
    """Return the SHA-256 of a weights file as 64 hexadecimal digits.

    Raises:
        InputError: no such file.
    """
    return hashlib.sha256(existing_weights(path).read_bytes()).hexdigest()


def check_follows(words: str) -> None:
    """Raise `UsageError` if words that a bundle's manifest holds name code of another package.

    Importing that would run whatever lies under the name, the working folder included.
    """
    if words.partition(":")[0] in _OWN_SCHEMES:
        return
    raise UsageError(
        f"the bundle names {words!r} as its model, which is code that a bundle cannot have run: "
        "if you trust that code, name it yourself (--model package.module:factory; in Python, "
        "model=), or leave the weights out."
    )


def check_reference(manifest: Manifest, weights: Path | str, model: str | None = None) -> str:
    """Return the words for the model that a bundle was compiled from, if it can be rebuilt.

    Args:
        manifest: the bundle's.
        weights: the very file that the bundle was compiled from.
        model: the words if the user says them; None takes the manifest's.

    Raises:
        InputError: no such file or another one, or a bundle whose model was not given by name.
        UsageError: the words name nothing, or the manifest's name other code.
    """
    existing_weights(weights)
    words, recorded = manifest.source.get("model"), manifest.source.get("weights")
    if not isinstance(words, str) or not isinstance(recorded, dict) or ":" not in words:
        raise InputError(
            f"the bundle was compiled from {words} without a weights file, so its PyTorch model "
            "cannot be rebuilt: check against the canonical graph by leaving weights out."
        )
    if model is None:
        check_follows(words)
    if file_sha256(weights) != recorded.get("sha256"):
        raise InputError(
            f"weights {weights} are not the file that the bundle was compiled from "
            f"({recorded.get('file')}): give that one."
        )
    check_model(model or words)
    return model or words
