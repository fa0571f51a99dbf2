"""Plain data held against a declaration: what a file says is believed after that, and not before.

A declaration is an annotation of Python's, made of what JSON has:

    str, int, float, bool, None, Any, list[T], dict[str, T], T | None, Literal["a", "b"],
    tuple[T, T] or tuple[T, ...] (a list), an Enum by its values, a TypedDict by its keys, and
    Annotated[T, Within(least, most)], which bounds a number, or the length of a text or list.

`fault` names the first value that is something else, its place, and what it must be. So a reader
states once what it takes, where the checks by hand of each reader would forget one.

    int is a whole number of 64 bits (True is none, 1.0 is none); float is any finite number
    keys of a TypedDict that are not declared are let be: a later version may have written them
    Any is still plain: no deeper than 64 levels, finite numbers of 64 bits

Own code, of the size of its rules: pydantic and msgspec would be one more compiled package on every
Jetson, name the place in a dictionary `[...]` instead of its key, and see no key that stands twice.
"""

import math
import types
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from .words import for_terminal

__all__ = ["Within", "fault", "faults"]

_DEEPEST = 64
_BEYOND = 1 << 63
_SHOWN = 60  # letters of a value
_WORDS = {
    str: "a text", int: "a whole number", float: "a finite number", bool: "true or false",
    list: "a list", tuple: "a list", dict: "an object", type(None): "null",
}  # fmt: skip


class Within(NamedTuple):
    """Bounds of a number, or of the length of a text, list or object; both are allowed."""

    least: float
    most: float


def fault(value: Any, kind: Any, place: str = "") -> str | None:
    """Return what is wrong with `value` as a clause, such as `input.batch is 0, and must be …`.

    Args:
        value: what JSON made: dictionaries, lists, texts, numbers, true, false, null.
        kind: the declaration.
        place: of the value in its file; empty is the file itself.
    """
    return next(_faults(value, kind, place, 0), None)


def faults(value: Any, kind: Any) -> Iterator[str]:
    """Yield every fault in the order of the data; see `fault`."""
    return _faults(value, kind, "", 0)


def _faults(value: Any, kind: Any, place: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        yield f"{_named(place)} is nested more than {_DEEPEST} levels deep"
        return
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        yield from _plain_faults(value, place, depth)
    elif origin is Annotated:
        yield from _bounded_faults(value, inner[0], inner[1], place, depth)
    elif origin in (Union, types.UnionType):
        yield from _union_faults(value, inner, place, depth)
    elif origin is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
        known = inner if origin is Literal else tuple(one.value for one in kind)
        if not any(type(value) is type(one) and value == one for one in known):
            yield _wrong(value, place, "one of " + ", ".join(map(repr, known)))
    elif is_typeddict(kind):
        yield from _object_faults(value, kind, place, depth)
    elif origin in (list, tuple, dict):
        yield from _container_faults(value, origin, inner, place, depth)
    elif not _is(value, kind):
        yield _wrong(value, place, _WORDS[kind])


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a plain kind."""
    if kind is float:
        return type(value) in (int, float) and _is_finite(value)
    if kind is int:
        return type(value) is int and -_BEYOND <= value < _BEYOND
    return type(value) is kind


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the floats
        return False


def _bounded_faults(value: Any, kind: Any, within: Within, place: str, depth: int) -> Iterator[str]:
    wrong = list(_faults(value, kind, place, depth))
    yield from wrong
    if wrong or value is None:
        return
    sized = isinstance(value, str | list | dict)
    if not within.least <= (len(value) if sized else value) <= within.most:
        ends = " to ".join(f"{end}" if isinstance(end, int) else f"{end:g}" for end in within)
        of = f"{_words(kind)} of {ends}"
        yield _wrong(value, place, of + (" entries" if sized else ""))


def _union_faults(value: Any, kinds: tuple[Any, ...], place: str, depth: int) -> Iterator[str]:
    tried = [list(_faults(value, kind, place, depth)) for kind in kinds]
    if all(tried):
        inside = [found for found in tried if not found[0].startswith(f"{_named(place)} is ")]
        words = " or ".join(_words(kind) for kind in kinds)
        yield from inside[0] if inside else [_wrong(value, place, words)]


def _object_faults(value: Any, kind: Any, place: str, depth: int) -> Iterator[str]:
    if type(value) is not dict:
        yield _wrong(value, place, _WORDS[dict])
        return
    hints = _hints(kind)
    for name in sorted(kind.__required_keys__ - value.keys()):
        yield f"{_named(place)} lacks {name}"
    for name, inner in value.items():
        yield from _faults(inner, hints.get(name, Any), _below(place, name), depth + 1)


def _container_faults(
    value: Any, kind: type, inner: tuple[Any, ...], place: str, depth: int
) -> Iterator[str]:
    if not isinstance(value, dict if kind is dict else list):
        yield _wrong(value, place, _WORDS[kind])
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _faults(one, inner[1], _below(place, name), depth + 1)
    elif kind is tuple and Ellipsis not in inner and len(value) != len(inner):
        yield _wrong(value, place, f"a list of {len(inner)}")
    else:
        each = inner if kind is tuple and Ellipsis not in inner else (inner[0],) * len(value)
        for index, (one, of) in enumerate(zip(value, each, strict=True)):
            yield from _faults(one, of, f"{place}[{index}]", depth + 1)


def _plain_faults(value: Any, place: str, depth: int) -> Iterator[str]:
    if type(value) is dict:
        for name, one in value.items():
            yield from _faults(one, Any, _below(place, name), depth + 1)
    elif type(value) is list:
        for index, one in enumerate(value):
            yield from _faults(one, Any, f"{place}[{index}]", depth + 1)
    elif type(value) in (int, float) and not _is(value, type(value)):
        yield _wrong(value, place, "a finite number of 64 bits")


@lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _wrong(value: Any, place: str, wanted: str) -> str:
    return f"{_named(place)} is {_shown(value)}, and must be {wanted}"


def _words(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Annotated:
        return _words(get_args(kind)[0])
    return _WORDS.get(origin or kind, "an object")


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{_WORDS[type(value)]} of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and not -_BEYOND <= value < _BEYOND:
        return "a number beyond 64 bits"
    text = repr(value)
    return for_terminal(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _named(place: str) -> str:
    return place.removeprefix(".") or "it"


def _below(place: str, name: str) -> str:
    """Return the place of a key."""
    if name.isidentifier():
        return f"{place}.{name}"
    short = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
    return f"{place}[{for_terminal(short)!r}]"
