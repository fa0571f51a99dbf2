"""The public keys whose signature is enough: one that is named in the call, and the user's folder.

    $XDG_CONFIG_HOME/maskrt/trusted-keys/*.pub     or in ~/.config

Keys and signatures are minisign's (https://jedisct1.github.io/minisign/): Ed25519 over BLAKE2b,
read and written by py-minisign. A file that others may write to is refused, as it would let them
say whom the user trusts.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core import InputError, require
from ...core.bundle_checks import storing
from ...core.cache import config_folder
from ...core.ownership import only_ours

__all__ = ["key_folder", "key_name", "minisign", "read_public", "trusted_files"]


def key_folder() -> Path:
    """Return the folder of the keys that this user trusts in every call."""
    return config_folder() / "trusted-keys"


def trusted_files(named: Path | str | None = None) -> Sequence[Path]:
    """Return the files of all keys that are trusted now.

    Args:
        named: a public key that is trusted in this call, too.

    Raises:
        InputError: a key of the folder may be written by others.
    """
    kept = sorted(key_folder().glob("*.pub"))
    for file in kept:
        if not (only_ours(file) and only_ours(file.parent)):
            raise InputError(
                f"others may write to {file} or its folder, so that it does not say whom you "
                f"trust: run chmod go-w {file.parent} {file}."
            )
    return [*([] if named is None else [Path(named)]), *kept]


def read_public(file: Path) -> Any:
    """Return the public key in a file, as `minisign -G` writes it.

    Raises:
        InputError: it is none.
        MissingDependencyError: py-minisign is not installed.
    """
    library = minisign("read a public key")
    try:
        return library.PublicKey.from_bytes(_bytes_of(file, "public key"))
    except library.Error as error:
        raise InputError(
            f"{file} is no public key of minisign ({error}): name the .pub file that minisign -G "
            "wrote."
        ) from error


def minisign(purpose: str) -> Any:
    """Return py-minisign's module."""
    return require("minisign", purpose)


def key_name(line: bytes | str) -> str:
    """Return the number of a key, as minisign prints it, from its line or a signature's.

    >>> key_name("RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3")
    'E7620F1842B4E81F'
    """
    return base64.b64decode(line)[2:10][::-1].hex().upper()


def _bytes_of(file: Path, kind: str) -> bytes:
    if not file.is_file():
        raise InputError(f"{kind} {file} does not exist: name the file that minisign -G wrote.")
    with storing(f"read {file}"):
        return file.read_bytes()
