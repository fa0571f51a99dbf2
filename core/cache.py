"""Where results are kept that can be had again: `maskrt` in `$XDG_CACHE_HOME` or `~/.cache`."""

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Return the folder, which need not exist; whatever lies in it may be deleted at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "maskrt"
