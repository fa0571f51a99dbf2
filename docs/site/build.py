"""The site: all pages of the repository under their own paths, and what is made of the code.

    make docs                        builds build/site; any broken link or anchor fails
    python docs/site/build.py        the same, with this Python

Pages keep their paths, so a link that works on GitHub works here, and no page has a second form.
What they link to beside pages (schemas, workflows) is copied along. The pages of the reference are
written by `reference.py` and are nowhere else. Nothing is fetched.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from reference import write_reference

ROOT = Path(__file__).resolve().parents[2]
STAGED = ROOT / "build" / "site-source"
PAGES = ("*.md", "docs/**/*.md", "benchmarks/results/*.md", "findings/*.md")
LINK = re.compile(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)")


def stage() -> None:
    """Copy the pages and what they link to, and write the reference."""
    shutil.rmtree(STAGED, ignore_errors=True)
    pages = {page for pattern in PAGES for page in ROOT.glob(pattern)}
    linked = {
        (page.parent / target).resolve()
        for page in pages
        for target in LINK.findall(_without_code(page.read_text(encoding="utf-8")))
    }
    for file in sorted(pages | linked):
        if not file.is_file():
            continue  # the build says which link it is
        place = STAGED / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    write_reference(STAGED / "reference")


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def main() -> int:
    """Stage, and build strictly."""
    stage()
    environment = os.environ | {"NO_COLOR": "1"}
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(
        [*command, "--config-file", "mkdocs.yml"], cwd=ROOT, env=environment, check=False
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
