"""Compare a built wheel with the tree: every module of ours is in it, and nothing else.

usage: python tests/wheel_contents.py WHEEL
"""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("core", "export", "calib", "plugins", "runtime")
DATA = (
    "maskrt/py.typed",
    "maskrt/running/bench.schema.json",
    "maskrt/packaging/nvdsinfer_maskrt.cpp",
    "maskrt/runtime/check/report.schema.json",
)


def expected() -> set[str]:
    """Return the paths inside the wheel that the tree asks for."""
    own = {str(p.relative_to(ROOT)) for p in (ROOT / "maskrt").rglob("*.py")}
    for folder in FOLDERS:
        for kind in ("*.py", "*.cu", "*.cuh", "*.h", "*.cpp"):
            own |= {f"maskrt/{p.relative_to(ROOT)}" for p in (ROOT / folder).rglob(kind)}
    return own | set(DATA)


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
