"""Files that appear whole, or not at all: written beside their place and renamed there."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .bundle_checks import storing

__all__ = ["whole_file", "write_text"]


@contextlib.contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Yield a hidden path with the suffix of `file`, that becomes `file` if the block ends well.

    Raises:
        StorageError: the disk is full or read-only; what was at `file` is there still.
    """
    with storing(f"write {file}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=".", suffix=f".{file.name}", dir=file.parent)
        os.close(number)
        try:
            yield Path(name)
            os.chmod(name, 0o644)
            os.replace(name, file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_text(file: Path, text: str) -> None:
    """Write a text file, UTF-8, as `whole_file` does.

    Raises:
        StorageError: the disk is full or read-only; what was at `file` is there still.
    """
    with whole_file(file) as written:
        written.write_text(text, encoding="utf-8")
