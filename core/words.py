"""What sentences share: commands that a shell takes as they are printed, nouns, suggestions."""

import re
import shlex
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

__all__ = ["command", "counted", "for_terminal", "lines_of", "quoted", "suggestion"]

_LONGEST = 80  # letters of a value that a sentence quotes

# Control characters but for tab and newline, what turns the direction of writing, lone surrogates.
_UNPRINTED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def command(*words: str | Path) -> str:
    """Return the words of a command as a shell takes them.

    >>> command("maskrt", "build", "so lo.maskrt", "--target", "cpu")
    "maskrt build 'so lo.maskrt' --target cpu"
    """
    return shlex.join(str(word) for word in words)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as `1 layer` or `2 layers`.

    >>> counted(1, "layer"), counted(0, "recipe")
    ('1 layer', '0 recipes')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of a name that is not known, as the end of a sentence.

    >>> suggestion("orin_nx", ["orin-nx", "cpu"]), suggestion("tpu", ["orin-nx", "cuda"])
    ('did you mean orin-nx?', 'choose one of orin-nx, cuda.')
    """
    names = list(known)
    close = get_close_matches(name, names, 1)
    return f"did you mean {close[0]}?" if close else f"choose one of {', '.join(names)}."


def quoted(value: object) -> str:
    """Return what stands in a file as a sentence quotes it: no longer than a name is.

    >>> quoted("car"), quoted("a" * 100)
    ("'car'", "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…'")
    """
    text = value if isinstance(value, str) else str(value)
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return repr(cut) if isinstance(value, str) else cut


def for_terminal(text: str) -> str:
    """Return `text` with what a terminal would obey written out, whoever put it into a name.

    >>> for_terminal("a ball\x1b[2J")
    'a ball\\\\x1b[2J'
    """
    return _UNPRINTED.sub(lambda found: ascii(found[0])[1:-1], text)


def lines_of(names: Iterable[str]) -> str:
    """Return names as the lines of a file in which the line's number means something.

    >>> lines_of(["background", "a\\nb"])
    'background\\na\\\\nb\\n'
    """
    plain = (for_terminal(name).replace("\t", "\\t").replace("\n", "\\n") for name in names)
    return "".join(f"{name}\n" for name in plain)
