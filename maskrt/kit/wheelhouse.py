"""Wheels for another Python and platform than this one, fetched by pip; and the list of them.

pip resolves as if it ran there (`--python-version`, `--platform`), and takes wheels alone. What it
chose is written into `requirements.txt`, so that the device installs exactly that, with
`--no-index --no-deps`. pip's own wheel is among them: a Jetson's Python may have none.
"""

import email
import importlib.metadata
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import NamedTuple

from ..core import MissingDependencyError
from .place import Place

__all__ = ["Listed", "fetch", "list_wheels"]

_WIDEST_LICENCE = 60


class Listed(NamedTuple):
    """The text of WHEELS.md, and how large all wheels are."""

    text: str
    total_bytes: int


def fetch(place: Place, folder: Path) -> None:
    """Fetch the wheels that maskrt needs in a place, but its own, into `folder`.

    Raises:
        MissingDependencyError: pip is not here, or finds no such wheels; with its words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    where = ["--python-version", place.python, "--implementation", "cp", "--abi", place.tag]
    for platform in place.platforms:
        where += ["--platform", platform]
    wanted = [*_own_requirements(), *place.packages, "pip"]
    _pip(["download", "--only-binary=:all:", "--dest", str(folder), *where, *wanted], place)
    if place.built:
        _pip(["wheel", "--no-deps", "--wheel-dir", str(folder), *place.built], place)
    lines = [f"{m['Name']}=={m['Version']}" for _, m in _described(folder)]
    lines.append(f"maskrt=={importlib.metadata.version('maskrt')}")
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def list_wheels(folder: Path) -> Listed:
    """Return the table of all wheels below `folder`, with sizes and licences."""
    rows, total = [], 0
    for tag in sorted(place for place in folder.iterdir() if place.is_dir()):
        for wheel, about in _described(tag):
            size = wheel.stat().st_size
            total += size
            rows.append(
                f"| {tag.name} | {about['Name']} | {about['Version']} | {size / 1e6:.1f} MB | "
                f"{_licence(about)} |"
            )
    head = "| for | package | version | size | licence, as it states it |\n|---|---|---|---|---|\n"
    text = f"# Python packages in this kit: {total / 1e6:.0f} MB\n\n{head}" + "\n".join(rows) + "\n"
    return Listed(text, total)


def _own_requirements() -> list[str]:
    """Return maskrt's requirements without extras."""
    given = importlib.metadata.requires("maskrt") or []
    return [line.partition(";")[0].strip() for line in given if "extra ==" not in line]


def _pip(words: list[str], place: Place) -> None:
    command = [sys.executable, "-m", "pip", *words, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (said or done.stderr.splitlines() or ["it said nothing"])[0]
        raise MissingDependencyError(
            f"pip could not fetch the packages for Python {place.python} on {place.system} "
            f"{place.machine} ({reason}): a kit is made where pip reaches its index."
        )


def _described(folder: Path) -> Iterator[tuple[Path, Message]]:
    """Yield each wheel with its metadata."""
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
            yield wheel, email.message_from_bytes(archive.read(name))


def _licence(about: Message) -> str:
    stated = about["License-Expression"] or (about["License"] or "").strip()
    lines = [line.strip() for line in stated.splitlines() if line.strip()]
    if lines and len(lines[0]) <= _WIDEST_LICENCE and not lines[0].startswith("Copyright"):
        return lines[0].replace("|", "/")
    classified = [c for c in about.get_all("Classifier", []) if c.startswith("License ::")]
    named = [c.rpartition(" :: ")[2] for c in classified]
    return ", ".join(named) or ("in the wheel" if about.get_all("License-File") else "not stated")
