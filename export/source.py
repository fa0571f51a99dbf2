"""From MODEL, the words that a user gives, to a PyTorch model with its weights.

torchvision:NAME         a detector of torchvision
maskrt:NAME              a model of this project
package.module:factory   any function or class that returns the model
a torch.nn.Module        as it is
"""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from ..core import InputError, UnsupportedModelError, UsageError
from .weights import file_sha256, load_weights, num_classes_in, read_weights
from .zoo import ZOO

__all__ = ["Source", "load_source"]

# torchvision sets the epsilon of these models' batch norms to 0 for these weights; a state dict
# does not say so, and loading them without it costs AP (torchvision's overwrite_eps).
_ZERO_EPSILON = {
    ("fasterrcnn_resnet50_fpn", "COCO_V1"),
    ("maskrcnn_resnet50_fpn", "COCO_V1"),
}


@dataclass(frozen=True)
class Source:
    """A PyTorch model and what is known of it.

    Attributes:
        model: in eval mode.
        class_names: name of each label, index 0 included, where the weights tell.
        about: what goes into the manifest.
    """

    model: nn.Module
    class_names: tuple[str, ...] | None
    about: dict[str, Any]


def load_source(
    model: str | nn.Module,
    *,
    weights: Path | str | None = None,
    num_classes: int | None = None,
) -> Source:
    """Return the model that `model` names, with `weights` loaded.

    Args:
        model: see the module's text.
        weights: `.safetensors` or `.pth`; None leaves the model as its builder made it.
        num_classes: background included; None takes it from the weights, else the builder's own.

    Raises:
        UsageError: the words name nothing.
        InputError: the weights are absent, damaged, or another model's.
    """
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    state = None if weights is None else read_weights(weights)
    if isinstance(model, nn.Module):
        built, words = model, f"a {type(model).__name__} object"
    else:
        built, words = _build(model, _class_count(num_classes, state, model)), model
    about: dict[str, Any] = {"model": words, "versions": versions, "weights": None}
    names: tuple[str, ...] | None = None
    if state is not None and weights is not None:
        load_weights(built, state, Path(weights).name)
        digest = file_sha256(weights)
        about["weights"] = {"file": Path(weights).name, "sha256": digest}
        if isinstance(model, str) and model.startswith("torchvision:"):
            names = _adopt_published(built, model.removeprefix("torchvision:"), digest)
    return Source(built.eval(), names, about)


def _class_count(given: int | None, state: dict[str, Tensor] | None, words: str) -> int | None:
    held = None if state is None else num_classes_in(state)
    if given is not None and held is not None and given != held:
        raise InputError(
            f"the weights for {words} were made for {held} classes (background included), and "
            f"num_classes is {given}: leave it out or give other weights."
        )
    return given if given is not None else held


def _build(words: str, num_classes: int | None) -> nn.Module:
    scheme, colon, name = words.partition(":")
    if not colon or not name:
        raise UsageError(
            f"model {words!r} is not understood: give torchvision:NAME, maskrt:NAME or "
            "package.module:factory."
        )
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if scheme == "torchvision":
        factory = _torchvision_builder(name)
        options |= {"weights": None, "weights_backbone": None}
    elif scheme == "maskrt":
        factory = _zoo_builder(name)
    else:
        factory = _import(scheme, name, f"model {words!r}")
    try:
        built = factory(**options)
    except TypeError as error:
        raise UsageError(f"model {words!r} cannot be built: {error}.") from error
    if not isinstance(built, nn.Module):
        raise UnsupportedModelError(
            f"model {words!r} is a {type(built).__name__}, and must be a torch.nn.Module."
        )
    return built


def _torchvision_builder(name: str) -> Callable[..., Any]:
    known = torchvision.models.list_models(module=torchvision.models.detection)
    if name not in known:
        raise UsageError(f"torchvision has no detector {name!r}{_suggestion(name, known)}.")
    return torchvision.models.get_model_builder(name)


def _zoo_builder(name: str) -> Callable[..., Any]:
    if name not in ZOO:
        raise UsageError(f"maskrt has no model {name!r}{_suggestion(name, list(ZOO))}.")
    module, _, attribute = ZOO[name].partition(":")
    return _import(module, attribute, f"model maskrt:{name}")


def _import(module: str, attribute: str, what: str) -> Callable[..., Any]:
    """Import `module:attribute`, the working folder included as `python -m` would."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{what} cannot be imported: {error}.") from error
    except AttributeError:
        raise UsageError(f"{what}: module {module} has no {attribute!r}.") from None
    if not callable(found):
        raise UsageError(f"{what} is a {type(found).__name__}, and must be a function or class.")
    return found


def _suggestion(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f": did you mean {close[0]}?" if close else f": it has {', '.join(known)}"


def _adopt_published(model: Any, name: str, digest: str) -> tuple[str, ...] | None:
    """Treat weights that torchvision publishes as torchvision does; return their class names.

    Published files carry the start of their SHA-256 in their name, so they are told by content.
    """
    for entry in torchvision.models.get_model_weights(name):
        stem = entry.url.rpartition("-")[2].removesuffix(".pth")
        if not digest.startswith(stem):
            continue
        if (name, entry.name) in _ZERO_EPSILON:
            for module in model.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eps = 0.0
        return tuple(entry.meta["categories"])
    return None
