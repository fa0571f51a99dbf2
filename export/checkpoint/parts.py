"""Which part of a checkpoint holds the weights.

Training programs save them beside an optimizer, a schedule and settings, under a key of their own:

    state_dict    mmengine, mmcv, Lightning, timm        model   detectron2, AdelaiDet, DETR
    any other     taken if it alone holds tensors by name

Averaged weights (EMA) are what those programs evaluate and hand out, so they are taken where a file
has both. mmengine's hook and Lightning's callback have put them under `state_dict` by themselves,
with the trained ones beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Part", "weights_part"]

_SWAPPED = {"ema_state_dict", "current_model_state"}  # hold the trained ones of a swapped file
_AVERAGED = (
    *("model_ema", "state_dict_ema", "ema_state_dict", "ema_model", "model_ema_state_dict"),
    *("ema_state", "ema"),
)
_TRAINED = ("model", "state_dict", "model_state_dict", "model_state")
_INSIDE = ("module", "model", "state_dict")  # what such a part may hold its weights under
_DEEPEST = 3


@dataclass(frozen=True)
class Part:
    """The weights in a checkpoint.

    Attributes:
        values: by parameter name, as they are in the file.
        path: the keys that lead to them; empty if they are the whole file.
        averaged: whether they are an average over training; None if the file does not tell.
        beside: the key of the others, trained or averaged, that the file holds too; "" if none.
    """

    values: Mapping[Any, Any]
    path: tuple[str, ...] = ()
    averaged: bool | None = None
    beside: str = ""


def weights_part(content: Any, is_weight: Callable[[Any], bool]) -> Part | None:
    """Return the part of `content` that holds weights by name, or None.

    Args:
        content: what a file holds.
        is_weight: whether a value is a tensor or an array.
    """
    if not isinstance(content, dict):
        return None
    if _holds_weights(content, is_weight):
        return Part(content)
    trained, averaged = (_first(content, keys, is_weight) for keys in (_TRAINED, _AVERAGED))
    if trained and averaged:
        if trained.path[0] == "state_dict" and averaged.path[0] in _SWAPPED:
            return Part(trained.values, trained.path, True, averaged.path[0])
        return Part(averaged.values, averaged.path, True, trained.path[0])
    if trained:
        swapped = next((key for key in _SWAPPED if isinstance(content.get(key), dict)), "")
        return Part(trained.values, trained.path, True if swapped else None, swapped)
    if averaged:
        return Part(averaged.values, averaged.path, True)
    return _only(content, is_weight)


def _first(
    content: dict[Any, Any], keys: tuple[str, ...], is_weight: Callable[[Any], bool]
) -> Part | None:
    found = (_inside(content.get(key), (key,), is_weight) for key in keys)
    return next((part for part in found if part is not None), None)


def _inside(value: Any, path: tuple[str, ...], is_weight: Callable[[Any], bool]) -> Part | None:
    """Return weights at `path`, or a level or two below it."""
    if not isinstance(value, dict):
        return None
    if _holds_weights(value, is_weight):
        return Part(value, path)
    if len(path) == _DEEPEST:
        return None
    deeper = (_inside(value.get(key), (*path, key), is_weight) for key in _INSIDE)
    return next((part for part in deeper if part is not None), None)


def _only(content: dict[Any, Any], is_weight: Callable[[Any], bool]) -> Part | None:
    """Return the one entry of another name that holds weights; None if none or several do."""
    held = [
        Part(value, (key,))
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, dict) and _holds_weights(value, is_weight)
    ]
    return held[0] if len(held) == 1 else None


def _holds_weights(value: dict[Any, Any], is_weight: Callable[[Any], bool]) -> bool:
    """Whether it has weights and no nested dictionary: a state dict, whatever else is in it."""
    return any(map(is_weight, value.values())) and not any(
        isinstance(entry, dict) and entry for entry in value.values()
    )
