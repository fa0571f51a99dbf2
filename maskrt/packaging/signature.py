"""Signing a bundle for others, and saying what of a signed one still is as it was signed."""

import time
from dataclasses import dataclass
from pathlib import Path

from ..core import Bundle, UntrustedError
from ..runtime.trust import Trust, check_trusted
from ..runtime.trust.signed import STATEMENT, Signed, find_signed, write_signature

__all__ = ["Verification", "sign", "verify"]

_MAY_CHANGE = "report/"  # what a check writes anew
_MAY_BE_LEFT_OUT = "engines/"  # those of other targets, where a bundle was copied to a device


@dataclass(frozen=True)
class Verification:
    """A signature that holds.

    Attributes:
        key: number of the key that signed, as minisign prints it.
        comment: the signature's trusted comment, such as its time.
        files: how many files are as they were signed.
        added: files that the bundle has got since, which nobody signed.
        changed: of the last check's report, those that were written anew.
        left_out: of engines, those that this copy of the bundle does not have.
    """

    key: str
    comment: str
    files: int
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def sign(
    bundle: Bundle | Path | str,
    *,
    key: Path | str,
    password: str | None = None,
    trust: Trust = False,
) -> str:
    """Sign a bundle with all its files, for those who trust the key; an older signature goes.

    Whoever trusts the key opens the engines without asking further. So an engine that was not built
    on this machine is signed only if you trust it.

    Args:
        bundle: what is signed.
        key: the secret key's file, as `minisign -G` writes it.
        password: of the key; None for one without (`minisign -G -W`).
        trust: as in `load`, for engines that others built.

    Returns:
        The key's number, as minisign prints it.

    Raises:
        InputError: the key cannot be used, or its password is wrong.
        UsageError: the key has a password, and none was given.
        UntrustedError: an engine was not built here.
        BundleError: a file of the bundle is missing, or is not the one that maskrt wrote.
        MissingDependencyError: py-minisign is not installed.
    """
    opened = Bundle.open(bundle)
    for name in opened.engines():
        check_trusted(opened, *opened.engine_named(name), trust)
    for relative in opened.digests:
        opened.read(relative)
    comment = f"timestamp:{int(time.time())}\tfile:{STATEMENT}\thashed"
    with opened.edit() as staged:
        return write_signature(staged, key, password, comment)


def verify(bundle: Bundle | Path | str, *, key: Path | str | None = None) -> Verification:
    """Say what a key that you trust has signed of a bundle, and that it is so still.

    Every file that was signed is read and compared. The last check's report may be another by now,
    engines may have been left out where the bundle was copied to a device, and files may have been
    added: these are named in the result.

    Args:
        bundle: what was signed.
        key: a public key's file; None tries those in `~/.config/maskrt/trusted-keys`.

    Raises:
        UntrustedError: no such signature holds, or a file is not the one that was signed.
        InputError: the key cannot be used.
        MissingDependencyError: py-minisign is not installed.
    """
    opened = Bundle.open(bundle)
    found = find_signed(opened, key)
    if isinstance(found, str):
        raise UntrustedError(
            f"no key that you trust vouches for {opened.path}: {found}; name the sender's public "
            "key with key=, or do not use the bundle."
        )
    return _compared(opened, found)


def _compared(bundle: Bundle, signed: Signed) -> Verification:
    differing = {name for name in signed.digests if signed.differs(bundle, name)}
    changed = {name for name in differing if name.startswith(_MAY_CHANGE)}
    left_out = {
        name for name in differing - changed
        if name.startswith(_MAY_BE_LEFT_OUT) and name not in bundle
    }  # fmt: skip
    if wrong := sorted(differing - changed - left_out):
        raise UntrustedError(
            f"{bundle.path / wrong[0]} is not the file that the key {signed.key} has signed: do "
            "not use the bundle, and get it from its sender again."
        )
    same = sorted(signed.digests.keys() - differing)
    for relative in same:
        bundle.read(relative)
    added = sorted(bundle.digests.keys() - signed.digests.keys())
    return Verification(
        signed.key, signed.comment, len(same), tuple(added), tuple(sorted(changed)),
        tuple(sorted(left_out)),
    )  # fmt: skip
