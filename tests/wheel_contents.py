"""Compare a built wheel with the tree: every file of ours is in it, and nothing else.

usage: python tests/wheel_contents.py WHEEL
"""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("core", "export", "calib", "plugins", "runtime")  # maskrt.<folder> in the wheel
IN_THE_REPOSITORY_ALONE = (".safetensors",)  # the demo's weights


def expected() -> set[str]:
    """Return the paths inside the wheel that the tree asks for: every file that git knows."""
    said = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "maskrt", *FOLDERS],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    files = [name for name in said.splitlines() if (ROOT / name).is_file()]
    return {
        name if name.startswith("maskrt/") else f"maskrt/{name}"
        for name in files
        if not name.endswith(IN_THE_REPOSITORY_ALONE)
    }


def found(wheel: str) -> set[str]:
    """Return the paths inside the wheel, its metadata apart."""
    return {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}


def main() -> int:
    """Print what is missing or too much; exit 1 if anything is."""
    wanted, present = expected(), found(sys.argv[1])
    for path in sorted(wanted - present):
        print(f"missing from the wheel: {path} (list its package in pyproject.toml)")
    for path in sorted(present - wanted):
        print(f"in the wheel and not in the tree: {path}")
    print(f"{len(present)} files in the wheel, {len(wanted)} expected")
    return int(wanted != present)


if __name__ == "__main__":
    sys.exit(main())
