"""Where a bundle lies: its manifest's bytes, whether it may be written, where its engines are."""

from pathlib import Path

from .errors import UsageError
from .folders import check_not_inside, recover
from .precision import Precision
from .target import Target
from .typed_files import plain_json

__all__ = [
    "ATTEMPTS",
    "MANIFEST",
    "check_destination",
    "engine_folder",
    "fault",
    "found_manifest",
    "manifest_in",
]

MANIFEST = "manifest.json"
ATTEMPTS = 20  # to read a file beside programs that rename its folder


def engine_folder(target: Target, precision: Precision, default: Precision) -> str:
    """Where an engine lies: `engines/cpu` at the bundle's precision, else `engines/cpu@fp16`."""
    return f"engines/{target.name}" + ("" if precision is default else f"@{precision.value}")


def check_destination(folder: Path) -> None:
    """Raise `UsageError` unless a bundle may be written at `folder`."""
    if folder.exists() and not _is_bundle(folder):
        raise UsageError(f"{folder} exists and is not a bundle: name another output or remove it.")
    if folder.parent.exists() and not folder.parent.is_dir():
        raise UsageError(f"{folder.parent} is a file, so no bundle can be written inside it.")
    check_not_inside(folder.resolve())


def _is_bundle(folder: Path) -> bool:
    """Whether `folder` has a manifest of ours, of any version, and not another program's."""
    try:
        data = plain_json((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and {"format_version", "family", "files"} <= data.keys()


def fault(folder: Path) -> str:
    """Say what keeps `folder` from being a bundle."""
    if not folder.exists():
        return "does not exist"
    return f"has no {MANIFEST}" if folder.is_dir() else "is a file and no folder"


def manifest_in(folder: Path) -> bytes | None:
    """Return the bytes of the manifest that lies there at this moment, if one does."""
    try:
        return (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def found_manifest(folder: Path) -> bytes | None:
    """Return the bytes of the manifest, if there is one.

    A folder that is not there may be on its way: renamed by a program that goes on, or that died.
    """
    for _ in range(ATTEMPTS):
        raw = manifest_in(folder)
        if raw is not None or not recover(folder):
            return raw or manifest_in(folder)
    return None
