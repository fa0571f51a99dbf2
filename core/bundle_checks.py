"""Where a bundle's files may lie, checked before anything acts on it.

A bundle may come from anywhere, so its manifest is not trusted: a listed path stays inside the
bundle (relative, no `..`, no link on the way).
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import BundleError, MaskrtError, StorageError

__all__ = ["check_files", "locate", "storing"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_files(files: dict[str, str], folder: Path) -> dict[str, str]:
    """Return the file list of a manifest.

    Raises:
        BundleError: a path leaves the bundle or is written in another way than maskrt does.
        TypeError: what stands for a sha256 is none.
    """
    for relative, digest in files.items():
        if not _stays_inside(relative):
            raise BundleError(
                f"the manifest of {folder} lists {relative!r}, which is not a path inside a "
                "bundle: do not use this bundle, and compile the model again."
            )
        if not _SHA256.fullmatch(digest):
            raise TypeError(f"the sha256 of {relative} is {digest[:64]!r}")
    return dict(files)


def locate(folder: Path, relative: str) -> Path:
    """Return the place of a bundle's file.

    Raises:
        BundleError: the path leaves the bundle, or a symbolic link lies on the way.
    """
    if not _stays_inside(relative):
        raise BundleError(f"{relative!r} is not a path inside a bundle: name one that is.")
    place = folder
    for part in relative.split("/"):
        place = place / part
        if place.is_symlink():
            raise BundleError(
                f"{place} is a symbolic link, and a bundle holds its files itself: put the file "
                "there, or compile the model again."
            )
    return place


@contextlib.contextmanager
def storing(action: str) -> Iterator[None]:
    """Turn the operating system's refusal into one sentence: `storing("write x")`."""
    try:
        yield
    except MaskrtError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot {action} ({error.strerror or error}): see that the disk has room and that its "
            "permissions allow it, and repeat."
        ) from error


def _stays_inside(relative: Any) -> bool:
    """Whether it is a path as maskrt writes it: relative, forward slashes, no dots."""
    if not isinstance(relative, str) or any(letter in relative for letter in "\\:\0"):
        return False
    return relative != "manifest.json" and all(
        part not in ("", ".", "..") for part in relative.split("/")
    )
