"""The worked examples of the documentation compute what they say."""

import subprocess
import sys
from pathlib import Path

import pytest

from .documents import ROOT, blocks_of

PAGES = sorted((ROOT / "docs" / "mathematics").glob("*.md"))
pytestmark = pytest.mark.torch


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_computes_is_so(page: Path, tmp_path: Path) -> None:
    """All of a page's Python is one program."""
    program = "\n".join(block.text for block in blocks_of(page))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
