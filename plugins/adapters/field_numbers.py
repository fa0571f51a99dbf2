"""An operator's attributes as numbers, each of which is one plugin field of one element.

| attribute | numbers |
|---|---|
| `int`, `float` | itself |
| tuple of floats | `name_0`, `name_1`, … |
| text | `name_0` to `name_3`: its UTF-8 bytes, four a whole number, little-endian, then zeros |

With NumPy 2, the bindings of TensorRT 10.0 to 10.15 read each element of a field as its first one
(`[.25, .125]` as `[.25, .25]`, `b"avg"` as `b"aaa"`), and a field of one element right. So no field
of maskrt has more.
"""

import struct
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from ...core import UnsupportedModelError
from ..operator import AttributeValue, Schema

__all__ = ["attributes_of_numbers", "number_kinds", "numbers_of", "values_at"]

_MOST_ELEMENTS = 16  # of a tuple: a pyramid has fewer levels
_WORDS = 4  # of a text
_WORD_BYTES = 4


def number_kinds(schema: Schema) -> dict[str, type]:
    """Return every name that a number of the operator's attributes may have, and int or float."""
    kinds: dict[str, type] = {}
    for attribute in schema.attributes:
        if attribute.kind is tuple:
            kinds |= dict.fromkeys(_names(attribute.name, _MOST_ELEMENTS), float)
        elif attribute.kind is str:
            kinds |= dict.fromkeys(_names(attribute.name, _WORDS), int)
        else:
            kinds[attribute.name] = attribute.kind
    return kinds


def numbers_of(attributes: Mapping[str, Any]) -> dict[str, int | float]:
    """Return attributes (numbers, texts, sequences of numbers) as numbers, in their order.

    Raises:
        UnsupportedModelError: a text or sequence is longer than fields are made for.
    """
    numbers: dict[str, int | float] = {}
    for name, value in attributes.items():
        if isinstance(value, str):
            numbers |= zip(_names(name, _WORDS), _words(name, value), strict=True)
        elif isinstance(value, (tuple, list)):
            if len(value) > _MOST_ELEMENTS:
                raise UnsupportedModelError(
                    f"attribute {name} has {len(value)} elements, and a plugin takes at most "
                    f"{_MOST_ELEMENTS}: give it fewer."
                )
            numbers |= zip(_names(name, len(value)), value, strict=True)
        else:
            numbers[name] = value
    return numbers


def attributes_of_numbers(
    schema: Schema, numbers: Mapping[str, int | float]
) -> dict[str, AttributeValue]:
    """Return the operator's attributes; what belongs to none of them keeps its name.

    Attributes without a number are left out. The schema has not been asked about the rest.
    """
    rest, found = dict(numbers), {}
    for attribute in schema.attributes:
        name = attribute.name
        if attribute.kind in (tuple, str):
            given = values_at(name, rest)
            rest = {n: v for n, v in rest.items() if n not in _names(name, len(given))}
            if given:
                is_text = attribute.kind is str
                found[name] = _text(given) if is_text else tuple(float(v) for v in given)
        elif name in rest:
            found[name] = attribute.kind(rest.pop(name))
    return {**found, **rest}


def values_at(name: str, numbers: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return `name_0`, `name_1`, … as far as they go."""
    found: list[Any] = []
    while f"{name}_{len(found)}" in numbers:
        found.append(numbers[f"{name}_{len(found)}"])
    return tuple(found)


@cache
def _names(name: str, count: int) -> tuple[str, ...]:
    """Return the names of the first numbers; they are kept, since a plugin field only points."""
    return tuple(f"{name}_{index}" for index in range(count))


def _words(name: str, text: str) -> tuple[int, ...]:
    data, most = text.encode(), _WORDS * _WORD_BYTES
    if len(data) > most or b"\0" in data:
        raise UnsupportedModelError(
            f"attribute {name} is {text!r}, and a plugin takes a text of at most {most} bytes, "
            "none of them zero."
        )
    return struct.unpack(f"<{_WORDS}i", data.ljust(most, b"\0"))


def _text(words: Iterable[int]) -> str:
    return b"".join(struct.pack("<i", int(w)) for w in words).rstrip(b"\0").decode(errors="replace")
