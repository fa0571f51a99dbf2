"""Every tutorial of our own model, by copy and paste: its commands run in a folder of their own.

Those that begin with other projects' files are in `test_foreign_tutorials.py`.
"""

from pathlib import Path

import pytest

from .documents import run_document
from .test_foreign_tutorials import PREPARE, START

PAGES = sorted(page for page in START.glob("*.md") if page.stem not in PREPARE)
pytestmark = [pytest.mark.torch, pytest.mark.rtx]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs_as_it_stands(page: Path, tmp_path: Path) -> None:
    run_document(page, tmp_path)
