"""A document's commands and Python, run in the order in which a reader copies them.

    python -m tests.documents docs/start/own_mask_rcnn.md FOLDER     runs it there, timed

    ```sh                     is run by bash, which stops at the first command that fails
    ```python                 is run by Python
    ```python title="a.py"    is written to that file
    <!-- not run: REASON -->  before a block: it needs what CI has not

A page whose model or pictures CI has not says what stands in for them: words, each with others in
their place, which must be in the page.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "blocks_of", "run_document"]

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n\s*)?"
    r"^```(?P<language>sh|python)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the file that it is written to, why it is not run."""

    language: str
    text: str
    title: str = ""
    reason: str = ""


def blocks_of(page: Path, stand_ins: Mapping[str, str] | None = None) -> list[Block]:
    """Return the blocks of a page of the repository, with what stands in for its words."""
    text = page.read_text(encoding="utf-8")
    for original, stand_in in (stand_ins or {}).items():
        assert original in text, f"{page.name} no longer has {original!r}"
        text = text.replace(original, stand_in)
    found = [Block(m["language"], m["text"], m["title"] or "", m["reason"] or "")
             for m in _BLOCK.finditer(text)]  # fmt: skip
    fences = re.findall(r"^```(?:sh|python)\b", text, re.MULTILINE)
    assert len(fences) == len(found), f"{page.name} has a block that is not understood"
    return found


def run_document(page: Path, place: Path, stand_ins: Mapping[str, str] | None = None) -> None:
    """Run all blocks of a page in the folder `place`, with this Python and its `maskrt`."""
    program = place / ".bin"
    program.mkdir(exist_ok=True)
    for name, words in (("maskrt", f"{sys.executable} -m maskrt"), ("python", sys.executable)):
        (program / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (program / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{program}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    began = time.perf_counter()
    for block in blocks_of(page, stand_ins):
        if block.reason:
            continue
        if block.title:
            (place / block.title).write_text(block.text)
            continue
        words = (
            ["bash", "-euo", "pipefail", "-c", block.text]
            if block.language == "sh"
            else [sys.executable, "-c", block.text]
        )
        done = subprocess.run(
            words, cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        took = time.perf_counter() - began
        print(f"{took:7.1f} s after the start: {block.text.strip().splitlines()[0][:70]}")


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True)
    run_document(Path(sys.argv[1]), folder)
