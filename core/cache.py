"""Where maskrt keeps what it writes beside bundles.

| function | folder | what lies there |
|---|---|---|
| `cache_folder` | `$XDG_CACHE_HOME/maskrt`, or in `~/.cache` | what can be had again |
| `kept_folder` | the same, or `MASKRT_CACHE`; none if that is `off` | likewise |
| `record_folder` | `$XDG_STATE_HOME/maskrt/record`, or in `~/.local/state` | what was built here |
| `config_folder` | `$XDG_CONFIG_HOME/maskrt`, or in `~/.config` | the user's: trusted keys |

`MASKRT_RECORD` names another folder for the record. Else it goes with a folder that `MASKRT_CACHE`
names; `off`, which is about what can be had again, leaves it where it is.
"""

import os
from pathlib import Path

__all__ = ["cache_folder", "config_folder", "kept_folder", "record_folder"]


def cache_folder() -> Path:
    """Return the folder, which need not exist; whatever lies in it may be deleted at any time."""
    return _base("CACHE", ".cache") / "maskrt"


def config_folder() -> Path:
    """Return the folder of the user's own settings, which need not exist."""
    return _base("CONFIG", ".config") / "maskrt"


def kept_folder() -> Path | None:
    """Return the folder of all that is kept between builds; None where it is switched off."""
    asked = os.environ.get("MASKRT_CACHE", "")
    if asked.lower() == "off":
        return None
    return Path(asked).absolute() if asked else cache_folder()


def record_folder() -> Path:
    """Return the folder of the record of what was built here, which need not exist."""
    named = os.environ.get("MASKRT_RECORD", "")
    if named:
        return Path(named).absolute()
    moved = os.environ.get("MASKRT_CACHE", "")
    if moved and moved.lower() != "off":
        return Path(moved).absolute() / "record"
    return _base("STATE", ".local/state") / "maskrt" / "record"


def _base(kind: str, ours: str) -> Path:
    return Path(os.environ.get(f"XDG_{kind}_HOME") or Path.home() / ours)
