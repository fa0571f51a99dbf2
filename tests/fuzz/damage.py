"""How inputs are damaged: as bytes, as JSON, as archives, as text; every change from a seeded dice.

A change keeps the outer form whole where it can (checksums of an archive, the length before a
header), so that the damage gets past the first check of a reader.
"""

import io
import json
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

__all__ = ["archive", "as_bytes", "as_json", "as_text", "either", "odd_value", "within"]

_NUMBERS = (
    0, 1, -1, 2, 3, 4, 7, 64, 127, 128, 255, 256, 1000, 4096, 65535, 1 << 16, 1 << 31, -(1 << 31),
    (1 << 31) - 1, 1 << 32, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, -(1 << 63), 1 << 64, 10**30,
    10**400, 0.0, -0.0, 0.5, 1e-320, 1e300, -1e300, 1e400, float("nan"), float("inf"),
)  # fmt: skip
_TEXTS = (
    "", " ", "a", "0", "-1", "1e9", "None", "null", "fp32", "int8", "cpu", "rtx", "box", "masks",
    "..", "../x", "/", "/etc/hosts", "a/b", "a\\b", "con", ".", "\0", "a\0b", "\n", "\x1b[2J",
    "\u202e", "\ud800", "é", "\U0001d518", "%s", "{}", "[0]", "a" * 300, "ab" * 5000, "1" * 5000,
)  # fmt: skip
_WORDS = (
    b"\0", b"\xff", b"\x80", b"\n", b"{", b"}", b"[", b"]", b"\"", b",", b":", b"-", b"1e999",
    b"NaN", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0\0\0\0\x80", b"PK\x03\x04",
    b"PK\x05\x06", b"\xef\xbb\xbf", b"\xff\xfe", b"\\ud800", b"[" * 2000, b"9" * 5000,
)  # fmt: skip


def odd_value(dice: Random) -> Any:
    """Return a value of JSON that a reader may not expect."""
    kind = dice.randrange(8)
    if kind < 3:
        return dice.choice(_NUMBERS)
    if kind < 5:
        return dice.choice(_TEXTS)
    if kind == 5:
        return dice.choice((None, True, False, [], {}, [[]], [None], {"": None}))
    if kind == 6:
        return [odd_value(dice) for _ in range(dice.randrange(5))]
    return {str(odd_value(dice))[:50]: odd_value(dice) for _ in range(dice.randrange(4))}


def as_bytes(data: bytes, dice: Random) -> bytes:
    """Flip, overwrite, insert, remove, repeat or cut."""
    raw = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 4, 16))):
        at = dice.randrange(len(raw) + 1)
        length = min(dice.choice((1, 1, 2, 4, 8, 64, 1024)), len(raw) - at)
        kind = dice.randrange(8)
        if kind < 2 and at < len(raw):
            raw[at] ^= 1 << dice.randrange(8)
        elif kind == 2 and at < len(raw):
            raw[at] = dice.randrange(256)
        elif kind == 3:
            word = dice.choice(_WORDS)
            raw[at : at + (len(word) if dice.random() < 0.5 else 0)] = word
        elif kind == 4:
            del raw[at : at + length]
        elif kind == 5:
            raw[at:at] = raw[at : at + length] * dice.choice((1, 1, 2, 50))
        elif kind == 6 and dice.random() < 0.3:
            del raw[at:]
        else:
            other = dice.randrange(len(raw) + 1)
            raw[at : at + length] = raw[other : other + length]
    return bytes(raw)


def as_json(data: bytes, dice: Random) -> bytes:
    """Change values, keys and lists somewhere in a JSON text; now and then its bytes, too."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return as_bytes(data, dice)
    holder = [content]
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        _change_value(holder, dice)
    text = _written(holder[0])
    if dice.random() < 0.05 and '"' in text:  # a key that stands twice
        key = text[text.index('"') :].split(":", 1)[0]
        text = text.replace(key, f"{key}:0,{key}", 1)
    raw = text.encode("utf-8", "surrogatepass")
    return as_bytes(raw, dice) if dice.random() < 0.1 else raw


def _written(content: Any) -> str:
    try:
        return json.dumps(content, ensure_ascii=False)
    except RecursionError:
        return "[" * 5000


def _change_value(root: Any, dice: Random) -> None:
    holder, key = root, 0
    while True:
        value = holder[key]
        inside = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(
            value, list
        ) else ()  # fmt: skip
        if not inside or (dice.random() < 0.15 and holder is not root):
            break
        holder, key = value, dice.choice(inside)
    kind = dice.randrange(7)
    if kind < 3:
        holder[key] = odd_value(dice)
    elif kind == 3 and holder is not root:
        del holder[key]
    elif kind == 4 and isinstance(holder, dict):
        holder[str(odd_value(dice))[:400]] = holder[key]
    elif kind == 5:
        holder[key] = _near(holder[key], dice)
    else:
        deep: Any = holder[key]
        for _ in range(dice.choice((1, 1, 2, 70, 300))):
            deep = [deep] if dice.random() < 0.5 else {"a": deep}
        holder[key] = deep


def _near(value: Any, dice: Random) -> Any:
    """Return a value of the same kind that lies beside it."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        if abs(value) > 1e15:
            return -value
        return dice.choice((value + 1, value - 1, -value, value * 2, f"{value}"[:50], value / 3))
    if isinstance(value, str):
        return as_text(value.encode("utf-8", "replace"), dice).decode("utf-8", "replace")
    if isinstance(value, list):
        return dice.choice((value[::-1], value * 2, value[:-1], [*value, odd_value(dice)]))
    return dict(list(value.items())[:-1])


def as_text(data: bytes, dice: Random) -> bytes:
    """Change words and numbers in a text; now and then its bytes."""
    if dice.random() < 0.3 or not data:
        return as_bytes(data, dice)
    words = data.split(b" ")
    for _ in range(dice.choice((1, 1, 2, 5))):
        at = dice.randrange(len(words))
        words[at] = dice.choice((
            str(odd_value(dice)).encode("utf-8", "replace"), words[dice.randrange(len(words))], b"",
            words[at] * 2,
        ))  # fmt: skip
    return b" ".join(words)


def either(*changes: Callable[[bytes, Random], bytes]) -> Callable[[bytes, Random], bytes]:
    """Return a change that is one of these at a time."""
    return lambda data, dice: dice.choice(changes)(data, dice)


def within(start: Callable[[bytes], tuple[int, int]], change: Any, length: int = 0) -> Any:
    """Return a change of a stretch of bytes, with its length before it written anew.

    Args:
        start: where the stretch begins and ends.
        change: of what is in it.
        length: bytes of the little-endian length that stands before it; 0 is none.
    """

    def changed(data: bytes, dice: Random) -> bytes:
        try:
            first, last = start(data)
        except (ValueError, IndexError):  # damaged already
            return as_bytes(data, dice)
        inner = change(data[first:last], dice)
        told = len(inner).to_bytes(length, "little") if length else b""
        return data[: first - length] + told + inner + data[last:]

    return either(changed, changed, as_bytes)


def archive(changes: dict[str, Any]) -> Any:
    """Return a change of one entry of a ZIP archive, whose checksums are right afterwards.

    Args:
        changes: end of an entry's name → how it is changed; `""` is any other.
    """

    def changed(data: bytes, dice: Random) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as source:
                entries = [(entry, source.read(entry)) for entry in source.infolist()]
        except Exception:  # damaged already
            return as_bytes(data, dice)
        chosen = dice.randrange(len(entries)) if entries else 0
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as made:
            for index, (entry, content) in enumerate(entries):
                if index == chosen:
                    if dice.random() < 0.05:
                        continue
                    own = next(
                        c for end, c in (*changes.items(), ("", as_bytes))
                        if entry.filename.endswith(end)
                    )  # fmt: skip
                    content = own(content, dice)
                made.writestr(entry.filename, content, entry.compress_type)
        return target.getvalue()

    return either(changed, changed, changed, as_bytes)
