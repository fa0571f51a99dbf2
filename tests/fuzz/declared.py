"""A value of a declared kind (`core/typed.py`), drawn at random: what a valid file may say."""

import types
from enum import Enum
from random import Random
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

__all__ = ["drawn"]

_NAMES = ("boxes", "scores", "labels", "masks", "count", "box", "mask", "cpu", "conv1", "fp16", "x")


def drawn(kind: Any, dice: Random, depth: int = 0) -> Any:
    """Return a value of `kind`; keys that need not be there are there half of the time."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bounded(inner[0], inner[1], dice, depth)
    if origin in (Union, types.UnionType):
        return drawn(dice.choice(inner), dice, depth)
    if origin is Literal:
        return dice.choice(inner)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return dice.choice([one.value for one in kind])
    if is_typeddict(kind):
        hints = get_type_hints(kind, include_extras=True)
        names = [n for n in hints if n in kind.__required_keys__ or dice.random() < 0.5]
        return {name: drawn(hints[name], dice, depth + 1) for name in names}
    if origin is dict:
        names = dice.sample(_NAMES, dice.randrange(4))
        return {name: drawn(inner[1], dice, depth + 1) for name in names}
    if origin is tuple and Ellipsis not in inner:
        return [drawn(one, dice, depth + 1) for one in inner]
    if origin in (list, tuple):
        return [drawn(inner[0], dice, depth + 1) for _ in range(dice.randrange(4))]
    return _plain(kind, dice)


def _bounded(kind: Any, within: Any, dice: Random, depth: int) -> Any:
    if kind in (int, float):
        ends = (within.least, within.most, min(within.most, max(within.least, dice.randrange(99))))
        return kind(dice.choice(ends))
    return drawn(kind, dice, depth)


def _plain(kind: Any, dice: Random) -> Any:
    if kind is Any:
        return dice.choice(({}, [], 0, "x", None, {"best": 1}, [{"drop": 0.5}]))
    return {
        str: dice.choice(_NAMES), int: dice.randrange(100), float: dice.random() * 100,
        bool: dice.random() < 0.5, type(None): None,
    }[kind]  # fmt: skip
