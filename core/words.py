"""What sentences share: commands that a shell takes as they are printed, nouns, suggestions."""

import shlex
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

__all__ = ["command", "counted", "suggestion"]


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
