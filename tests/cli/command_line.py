"""maskrt called as from the command line."""

from pathlib import Path
from typing import Any

import pytest

from maskrt.cli import main

__all__ = ["MODEL", "check", "run"]

MODEL = ("--model", "tests.export.detectors:tiny_mask_rcnn")  # what `work` was compiled from


def run(*words: Any) -> int:
    """Return the exit status of `maskrt` with these words."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def check(work: Path, *words: Any) -> int:
    """Check the bundle in the folder `work` on its own pictures and annotations."""
    return run(
        "check", work / "tiny.maskrt", "--images", work / "pictures",
        "--annotations", work / "annotations.json", *words,
    )  # fmt: skip
