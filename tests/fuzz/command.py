"""The command line in this process, and what would be a fault of it."""

import contextlib
import io
import re

__all__ = ["DefectError", "run_words"]

_DEFECT = "a defect in maskrt"
_FRAME = re.compile(r'File "[^"]*?([^"/]+/[^"/]+)", line (\d+)')


class DefectError(Exception):
    """The command line ended in another way than it may.

    Attributes:
        place: what tells this fault from another.
    """

    def __init__(self, place: str, text: str) -> None:
        super().__init__(text)
        self.place = place


def run_words(words: list[str]) -> int:
    """Run `maskrt WORDS` and return its status: 0, or 1 or 2 with a sentence."""
    from maskrt.cli import main

    printed, ended = io.StringIO(), None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            main(["--debug", *words])
        except SystemExit as error:
            ended = error.code
    text = printed.getvalue()
    if _DEFECT in text:
        frames = [f"{file}:{line}" for file, line in _FRAME.findall(text) if "fuzz/" not in file]
        kind = text.rpartition(_DEFECT)[2][2:].partition(":")[0]
        raise DefectError(f"{kind} {frames[-1] if frames else ''}", text[-3000:])
    if ended not in (0, 1, 2) or (ended and "error: " not in text and "Usage" not in text):
        raise DefectError(f"status {ended} without a sentence", text[-3000:])
    return int(ended or 0)
