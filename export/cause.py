"""What another library's exception says, short enough to stand in one sentence of ours."""

import re

__all__ = ["cause_of"]

_LONGEST = 200  # characters
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # torch.onnx colours its messages


def cause_of(error: BaseException) -> str:
    """Return `Type: first line` of `error`, its message cut to 200 characters.

    >>> cause_of(ValueError("too small\\nsee the manual"))
    'ValueError: too small'
    """
    lines = _COLOURS.sub("", str(error)).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {lines[0].strip()[:_LONGEST].rstrip('. ')}" if lines else name
