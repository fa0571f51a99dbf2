"""A bundle's signature: minisign's, over its manifest as it was when it was signed.

    signed/manifest.json             the manifest then, with the SHA-256 of every file
    signed/manifest.json.minisig     its signature

A manifest lists every file of its bundle, engines and `engine.json` included, so the signature
covers them by their digests. It stands beside `manifest.json` because a bundle goes on living: a
check writes its report, a device builds an engine of its own. What was signed keeps its digests,
and is compared with the bundle as it is now. `minisign -Vm signed/manifest.json -p KEY.pub` needs
no maskrt.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core import Bundle, BundleError, InputError, Manifest, UntrustedError, UsageError
from ...core.bundle_checks import locate, storing
from ...core.bundle_content import read_manifest
from .keys import key_name, minisign, read_public, trusted_files

__all__ = ["Signed", "find_signed", "write_signature"]

STATEMENT, SIGNATURE = "signed/manifest.json", "signed/manifest.json.minisig"


@dataclass(frozen=True)
class Signed:
    """What a trusted key has signed.

    Attributes:
        key: the key's number, as minisign prints it.
        comment: the signature's trusted comment, such as its time.
        manifest: of the bundle then.
        digests: SHA-256 of each file then.
    """

    key: str
    comment: str
    manifest: Manifest
    digests: dict[str, str]

    def differs(self, bundle: Bundle, relative: str) -> bool:
        """Whether the bundle now lists another file there than was signed, or none was."""
        return self.digests.get(relative) != bundle.digests.get(relative)


def find_signed(bundle: Bundle, named: Path | str | None = None) -> Signed | str:
    """Return what a trusted key has signed of this bundle, or why there is nothing.

    Args:
        bundle: the bundle.
        named: a public key that is trusted in this call, beside those of `keys.key_folder`.

    Raises:
        InputError: a key cannot be used.
        MissingDependencyError: py-minisign is not installed, and there is something to verify.
    """
    files = trusted_files(named)
    keys = [read_public(file) for file in files] if named is not None else None
    raw, signature = _read(bundle, STATEMENT), _read(bundle, SIGNATURE)
    if raw is None or signature is None:
        return "it is not signed"
    if not files:
        return "it is signed, and you trust no key"
    keys = keys or [read_public(file) for file in files]
    library = minisign(f"verify the signature of {bundle.path}")
    try:
        given = library.Signature.from_bytes(signature)
        number = key_name(bytes(given).splitlines()[1])
        ours = [key for key in keys if key_name(key.to_base64()) == number]
        if not ours:
            return f"it is signed by the key {number}, which is none of those that you trust"
        ours[0].verify(raw, given)
    except (library.Error, ValueError, IndexError) as error:
        return f"its signature is not valid ({error})"
    found = _parsed(raw, bundle.path)
    if found is None:
        return f"what the key {number} has signed is no manifest of maskrt"
    manifest, digests = found
    if manifest != bundle.manifest:
        return f"its manifest is not the one that the key {number} has signed"
    return Signed(number, given.trusted_comment, manifest, digests)


def write_signature(staged: Bundle, key: Path | str, password: str | None, comment: str) -> str:
    """Sign a bundle that is being edited; return the key's number.

    Args:
        staged: from `Bundle.edit`, with all that is to be signed.
        key: the secret key's file.
        password: of that; None for a key without one.
        comment: the signature's trusted comment.

    Raises:
        InputError: the key cannot be used, or its password is wrong.
        UsageError: the key has a password, and none was given.
        MissingDependencyError: py-minisign is not installed.
    """
    secret, raw = _secret_key(Path(key), password), staged.manifest_bytes()
    signature = secret.sign(raw, prehash=True, trusted_comment=comment)
    secret.wipe()
    for relative, content in ((STATEMENT, raw), (SIGNATURE, bytes(signature) + b"\n")):
        file = locate(staged.path, relative)
        with storing(f"write {relative} into the bundle"):
            file.parent.mkdir(exist_ok=True)
            file.unlink(missing_ok=True)  # a hard link to the one before
            file.write_bytes(content)
    return key_name(bytes(signature).splitlines()[1])


def _secret_key(file: Path, password: str | None) -> Any:
    library = minisign("sign a bundle")
    if not file.is_file():
        raise InputError(f"secret key {file} does not exist: make one with minisign -G.")
    with storing(f"read {file}"):
        raw = file.read_bytes()
    try:
        secret = library.SecretKey.from_bytes(raw)
        if secret.is_encrypted():
            if password is None:
                raise UsageError(f"the secret key {file} has a password: give password=.")
            secret.decrypt(password)
    except library.Error as error:
        raise InputError(
            f"{file} cannot sign ({error}): name the secret key that minisign -G wrote, and its "
            "password."
        ) from error
    return secret


def _read(bundle: Bundle, relative: str) -> bytes | None:
    """Return a file beside the manifest's, or None if there is none."""
    file = locate(bundle.path, relative)
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UntrustedError(f"{file} cannot be read ({error.strerror}).") from error


def _parsed(raw: bytes, folder: Path) -> tuple[Manifest, dict[str, str]] | None:
    try:
        return read_manifest(raw, folder)
    except BundleError:
        return None
