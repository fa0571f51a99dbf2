"""Replacing a folder as a whole: the new one is made beside it, hidden, and renamed into place.

Nobody sees half of it, and a program that is killed leaves the old one as it was.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .bundle_checks import storing
from .errors import BundleError, UsageError

__all__ = [
    "asked_for", "check_free", "check_not_inside", "files_in", "link", "new_folder", "staging",
]  # fmt: skip

_HIDDEN = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}")  # as tempfile makes it from our prefix


@contextlib.contextmanager
def staging(folder: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, and rename it to `folder` when the block ends well.

    Args:
        folder: absolute, without symbolic links.
        check: raises if the folder that it is given must not be replaced any more.
    """
    check_not_inside(folder)
    with storing(f"make a folder in {folder.parent}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = _hidden_beside(folder)
    try:
        with storing(f"open {staged} to other users"):
            staged.chmod(0o755)
        yield staged
        check(folder)
        with storing(f"put {folder} in place"):
            if folder.exists():
                _replace(folder, staged, check)
            else:
                staged.replace(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def check_free(folder: Path, kind: str) -> None:
    """Raise `UsageError` if `folder` exists; `kind` is what may have another name instead."""
    if folder.exists():
        raise UsageError(f"{folder} exists: name another {kind}, or remove it.")


@contextlib.contextmanager
def new_folder(folder: Path, kind: str) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` when the block ends well; none is replaced."""
    with (
        staging(folder.resolve(), lambda taken: check_free(taken, kind)) as staged,
        storing(f"write {folder}"),
    ):
        yield staged


def _replace(folder: Path, staged: Path, check: Callable[[Path], None]) -> None:
    """Rename `staged` to `folder`; if that fails, what was at `folder` is there again."""
    retired = _hidden_beside(folder)
    old = retired / "old"
    try:
        folder.replace(old)
        try:
            check(old)  # nobody can change it any more: what the first check could still miss
            staged.replace(folder)
        except BaseException:
            old.replace(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):  # if even going back failed, it holds the only copy
            retired.rmdir()


def _hidden_beside(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))


def asked_for(path: str) -> str:
    """Return the path that a user asked for, of a hidden one beside it in which it is made.

    >>> asked_for("out/.report.json.j804wn36")
    'out/report.json'
    """
    hidden = _HIDDEN.fullmatch(Path(path).name)
    return str(Path(path).with_name(hidden["name"])) if hidden else path


def files_in(folder: Path) -> Iterator[str]:
    """Yield every file and symbolic link below `folder`, relative, with forward slashes."""
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in (*files, *links):
            yield (Path(root) / name).relative_to(folder).as_posix()


def link(source: Path, destination: Path) -> None:
    """Make `destination` the same file as `source`, or a copy of it."""
    with storing(f"make a folder for {source.name}"):
        destination.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        destination.symlink_to(os.readlink(source))
        return
    if not source.exists():
        raise BundleError(
            f"{source} is missing from the bundle: put it back or compile the model again."
        )
    try:
        os.link(source, destination)
    except OSError:  # a file system without hard links
        with storing(f"copy {source}"):
            shutil.copy2(source, destination)


def check_not_inside(folder: Path) -> None:
    """Raise `UsageError` if the working directory would be replaced under the program's feet.

    The rename itself would work, and leave the program and its shell in a deleted directory.
    """
    if Path.cwd().is_relative_to(folder):
        raise UsageError(
            f"the working directory is inside {folder}, which is replaced as a whole: change to "
            f"{folder.parent} and name the bundle from there."
        )
