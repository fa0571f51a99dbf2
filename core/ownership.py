"""Whether what lies in a file or folder can only have been written by this user, or by root."""

import os
import stat
from pathlib import Path

__all__ = ["only_ours"]


def only_ours(place: Path) -> bool:
    """Whether a file or folder belongs to this user or root, and nobody else may write to it.

    On Windows, whose permissions are of another kind, the profile's own protection has to do.
    """
    try:
        found = place.stat()
    except OSError:
        return False
    if not hasattr(os, "geteuid"):
        return True
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
