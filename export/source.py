"""From MODEL, the words that a user gives, to a PyTorch model with its weights.

torchvision:NAME         a detector of torchvision
maskrt:NAME              a model of this project
package.module:factory   any function or class that returns the model
a torch.nn.Module        as it is
"""

import copy
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from ..core import InputError, MaskrtError, UnsupportedModelError, UsageError, suggestion
from .asked import check_model, check_num_classes, file_sha256, split_words
from .cause import cause_of
from .families.registry import classes_in, refusal, remark, translate
from .prefixes import Unwrapped, unwrapped
from .weights import load_weights, misfit, printable, read_checkpoint
from .zoo import TIMM_PREFIX, ZOO

__all__ = ["Source", "load_source"]

# torchvision sets the epsilon of these models' batch norms to 0 for these weights; a state dict
# does not say so, and loading them without it costs AP (torchvision's overwrite_eps).
_ZERO_EPSILON = {
    ("fasterrcnn_resnet50_fpn", "COCO_V1"),
    ("maskrcnn_resnet50_fpn", "COCO_V1"),
}
_EPSILON_WARNING = (
    "the weights come from frozen batch norms and are not a file that torchvision publishes, so "
    "their epsilon (0 if fine-tuned from COCO_V1, taken here as 1e-5) is unknown: check the AP "
    "against the training framework's."
)


@dataclass(frozen=True)
class Source:
    """A PyTorch model and what is known of it.

    Attributes:
        model: in eval mode.
        class_names: name of each label, index 0 included, where the weights tell.
        about: what goes into the manifest; `warning` is there only if something is in doubt.
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
        model: see the module's text. A module is never changed: where weights are loaded into it
            or it is in training mode, that happens to a copy.
        weights: `.safetensors`, a checkpoint of PyTorch or a `.pkl` of arrays; None leaves the
            model as its builder made it.
        num_classes: background included; None takes it from the weights, else the builder's own.
            Not to be given with a module.

    Raises:
        UsageError: the words name nothing, their factory fails, or `num_classes` makes no sense.
        InputError: the weights are absent, damaged, or another model's.
    """
    check_model(model)
    check_num_classes(num_classes, model)
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    checkpoint = None if weights is None else read_checkpoint(weights)
    held = None if checkpoint is None else _told(checkpoint.tensors)
    if isinstance(model, nn.Module):
        built, words = _untouchable(model, held), f"a {type(model).__name__} object"
    else:
        built, words = _build(model, num_classes, _classes_held(num_classes, held, model)), model
    about: dict[str, Any] = {"model": words, "versions": versions, "weights": None}
    names: tuple[str, ...] | None = None
    if checkpoint is not None and weights is not None:
        state = _load(built, checkpoint.tensors, Path(weights).name)
        digest = file_sha256(weights)
        about["weights"] = {
            "file": Path(weights).name, "sha256": digest, **checkpoint.about, **_taken(state)
        }  # fmt: skip
        remarks = [remark(state.tensors), getattr(built, "warning", None)]
        if any(remarks):
            about["warning"] = " ".join(said for said in remarks if said)
        if isinstance(model, str) and model.startswith("torchvision:"):
            name = model.removeprefix("torchvision:")
            names = _adopt_published(built, name, digest)
            if names is None and _epsilon_in_doubt(built, state.tensors, name):
                about["warning"] = _EPSILON_WARNING
    return Source(built.eval(), names, about)


def _told(tensors: Mapping[str, Tensor]) -> Unwrapped:
    """Return the weights without the prefix under which a family knows them, or as they are."""
    forms = list(unwrapped(tensors))
    return next((form for form in forms if classes_in(form.tensors) is not None), forms[0])


def _load(model: nn.Module, tensors: Mapping[str, Tensor], name: str) -> Unwrapped:
    """Load the weights into `model` without the prefix that keeps them from fitting.

    Raises:
        InputError: they do not fit, whatever is taken off their names.
    """
    told = _told(tensors)
    for form in (told, *unwrapped(tensors)):
        translated = translate(model, form.tensors)
        if not misfit(model, translated):
            load_weights(model, translated, name)
            return form
    known = refusal(told.tensors)
    if known is not None:
        raise InputError(f"weights {name} are {known}")
    load_weights(model, translate(model, told.tensors), name)
    raise AssertionError("weights that do not fit were loaded")


def _taken(form: Unwrapped) -> dict[str, Any]:
    """Say for the manifest what was taken off the names, and how much was left out for it."""
    return {
        **({"prefix": printable(form.prefix)} if form.prefix else {}),
        **({"left_out": form.left_out} if form.left_out else {}),
    }


def _untouchable(model: nn.Module, held: Unwrapped | None) -> nn.Module:
    """Return `model`, or a copy if it would be changed by loading weights or by `eval`."""
    if held is None and not any(module.training for module in model.modules()):
        return model
    with torch.no_grad():
        return copy.deepcopy(model)


def _classes_held(given: int | None, weights: Unwrapped | None, words: str) -> int | None:
    """Return the number of classes that the weights tell, or raise if another was given."""
    held = None if weights is None else classes_in(weights.tensors)
    if given is not None and held is not None and given != held:
        raise InputError(
            f"the weights for {words} were made for {held} classes (background included), and "
            f"num_classes is {given}: leave it out or give other weights."
        )
    return held


def _build(words: str, given: int | None, held: int | None) -> nn.Module:
    """Build the model that `words` name, of `given` classes, else of as many as the weights have.

    A user's factory need not take `num_classes`; then it has to make the right number by itself.
    """
    factory, options = _find(words)
    if given is not None or (held is not None and _takes_num_classes(factory)):
        options["num_classes"] = held if given is None else given
    _check_call(factory, options, words)
    try:
        built = factory(**options)
    except MaskrtError:
        raise
    except Exception as error:  # whatever a user's code may raise
        raise UsageError(
            f"model {words!r} could not be built by its factory ({cause_of(error)})."
        ) from error
    if not isinstance(built, nn.Module):
        raise UnsupportedModelError(
            f"model {words!r} is a {type(built).__name__}, and must be a torch.nn.Module."
        )
    return built


def _find(words: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the factory that `words` name, and the arguments that its kind always gets."""
    scheme, name = split_words(words)
    if scheme == "torchvision":
        return _torchvision_builder(name), {"weights": None, "weights_backbone": None}
    if scheme == "maskrt":
        return _zoo_builder(name), {}
    return _import(scheme, name, f"model {words!r}"), {}


def _signature(factory: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature, or None for one of the few callables written in C that have none."""
    try:
        return inspect.signature(factory)
    except (TypeError, ValueError):
        return None


def _takes_num_classes(factory: Callable[..., Any]) -> bool:
    signature = _signature(factory)
    return signature is not None and any(
        p.kind is p.VAR_KEYWORD or (p.name == "num_classes" and p.kind is not p.POSITIONAL_ONLY)
        for p in signature.parameters.values()
    )


def _check_call(factory: Callable[..., Any], options: dict[str, Any], words: str) -> None:
    """Refuse a call that the signature does not allow, before the factory's own code runs."""
    signature = _signature(factory)
    if signature is None:
        return
    try:
        signature.bind(**options)
    except TypeError as error:
        given = ", ".join(options) or "no arguments"
        raise UsageError(
            f"model {words!r} cannot be built: its factory takes {signature}, and is called with "
            f"{given} ({error})."
        ) from error


def _torchvision_builder(name: str) -> Callable[..., Any]:
    known = torchvision.models.list_models(module=torchvision.models.detection)
    if name not in known:
        raise UsageError(f"torchvision has no detector {name!r}: {suggestion(name, known)}")
    return torchvision.models.get_model_builder(name)


def _zoo_builder(name: str) -> Callable[..., Any]:
    if name.startswith(TIMM_PREFIX):
        from .zoo.maskrcnn import maskrcnn_timm

        return functools.partial(maskrcnn_timm, name.removeprefix(TIMM_PREFIX))
    if name not in ZOO:
        raise UsageError(f"maskrt has no model {name!r}: {suggestion(name, ZOO)}")
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


def _epsilon_in_doubt(model: nn.Module, state: Mapping[str, Tensor], name: str) -> bool:
    """Whether `state` may have been trained with an epsilon of 0, which it cannot tell.

    FrozenBatchNorm2d, which torchvision's pretrained builders use, saves no `num_batches_tracked`;
    the BatchNorm2d of a model built without weights does.
    """
    if name not in {model_name for model_name, _ in _ZERO_EPSILON}:
        return False
    counters = {
        key
        for key in model.state_dict()
        if key.startswith("backbone.") and key.endswith(".num_batches_tracked")
    }
    return bool(counters) and not counters & state.keys()
