"""Replacing a folder as a whole: the new one is made beside it, hidden, and takes its name.

    street.maskrt/                      the folder
    .street.maskrt.edit-x3k9a0qz/new/   what is to become of it

Nobody sees half of it. Where the kernel exchanges two names in one step, the folder is there at all
times; elsewhere it is renamed away (to `old` in the hidden one) and the new one into place. A
program that is killed leaves the old one or the new one whole. A hidden folder has a file that is
locked as long as its maker lives, so the next one that works there knows those of the dead: it
sweeps them, and puts back what was renamed away. `recover` does so for a reader.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .bundle_checks import storing
from .errors import BundleError, MaskrtError, UsageError
from .exchange import exchange, hold, only_one, synced

__all__ = [
    "asked_for", "check_free", "check_not_inside", "files_in", "link", "new_folder", "recover",
    "staging",
]  # fmt: skip

_ALIVE = "alive"  # a file that is locked as long as the program lives that made the folder
_HIDDEN = re.compile(r"\.(?P<name>[^/]+)\.[a-z0-9_]{8}")  # as tempfile makes it from our prefix
_STAGED = re.compile(r"(?<![^/])\.(?P<name>[^/]+?)\.edit-[a-z0-9_]{8}/new(?![^/])")


@contextlib.contextmanager
def staging(folder: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `folder` when the block ends well.

    Args:
        folder: absolute, without symbolic links.
        check: raises if the folder that it is given must not be replaced any more.
    """
    check_not_inside(folder)
    with storing(f"make a folder in {folder.parent}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with only_one(folder.parent):
            _sweep(folder)
            hidden = Path(tempfile.mkdtemp(prefix=_prefix(folder), dir=folder.parent))
            (hidden / _ALIVE).touch()
            alive = hold(hidden / _ALIVE)
    staged = hidden / "new"
    try:
        with storing(f"open {staged} to other users"):
            staged.mkdir()
            staged.chmod(0o755)
        yield staged
        with storing(f"put {folder} in place"):
            synced(staged)
            with only_one(folder.parent):
                check(folder)
                if not folder.exists():
                    staged.replace(folder)
                elif exchange(staged, folder):
                    _check_taken(folder, staged, check)
                else:
                    _replace(folder, staged, check)
            _sync_name(folder)
    except MaskrtError as error:  # what was wrong in the copy is wrong in what it is a copy of
        error.args = tuple(
            arg.replace(str(staged), str(folder)) if isinstance(arg, str) else arg
            for arg in error.args
        )
        raise
    finally:
        if not (hidden / "old").exists():  # if even going back failed, it holds the only copy
            shutil.rmtree(hidden, ignore_errors=True)
        if alive is not None:
            os.close(alive)


def recover(folder: Path) -> bool:
    """Put `folder` back if a program was killed while it had it renamed away.

    One that is alive and between its two renames is waited for. Returns whether there was any.
    """
    folder = folder.resolve()
    with contextlib.suppress(OSError):  # a reader need not be allowed to
        if any(folder.parent.glob(f"{_escaped(folder)}*")):
            with only_one(folder.parent):
                _sweep(folder)
            return True
    return False


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


def _check_taken(folder: Path, old: Path, check: Callable[[Path], None]) -> None:
    """Check what was taken away, which nobody can change any more; exchange it back if it differs.

    It can only differ where the file system knows no locks.
    """
    try:
        check(old)
    except BaseException:
        exchange(old, folder)
        raise


def _replace(folder: Path, staged: Path, check: Callable[[Path], None]) -> None:
    """Rename `staged` to `folder`; if that fails, what was at `folder` is there again."""
    old = staged.with_name("old")
    folder.replace(old)
    try:
        check(old)  # nobody can change it any more: what the first check could still miss
        staged.replace(folder)
    except BaseException:
        old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove the hidden folders of the dead, and put back what they had renamed away."""
    for hidden in folder.parent.glob(f"{_escaped(folder)}*"):
        mark = hidden / _ALIVE
        number = hold(mark if mark.exists() else hidden)
        if number is None:  # its maker lives, or it cannot be known
            continue
        try:
            old = hidden / "old"
            if old.exists() and not folder.exists():
                old.replace(folder)
            shutil.rmtree(hidden, ignore_errors=True)
        finally:
            os.close(number)


def _sync_name(folder: Path) -> None:
    """Have the disk hold the name of `folder` in the folder above it."""
    number = os.open(folder.parent, os.O_RDONLY)
    with contextlib.suppress(OSError):  # not every file system does so for a folder
        os.fsync(number)
    os.close(number)


def _prefix(folder: Path) -> str:
    return f".{folder.name}.edit-"


def _escaped(folder: Path) -> str:
    """Return the prefix as a pattern of `glob`, in which a name's brackets mean nothing."""
    return re.sub(r"([*?[])", r"[\1]", _prefix(folder))


def asked_for(path: str) -> str:
    """Return the path that a user asked for, of a hidden one beside it in which it is made.

    >>> asked_for("out/.report.json.j804wn36"), asked_for("out/.b.maskrt.edit-j804wn36/new/a.json")
    ('out/report.json', 'out/b.maskrt/a.json')
    """
    path = _STAGED.sub(lambda found: found["name"], path)
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
