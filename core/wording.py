"""What sentences share: commands that a shell takes as they are printed, and counted nouns."""

import shlex
from pathlib import Path

__all__ = ["command", "counted"]


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
