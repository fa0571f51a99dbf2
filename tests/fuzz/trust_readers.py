"""Readers of what says whether an engine is trusted: signatures, keys, this machine's record."""

import json
from pathlib import Path

from maskrt.runtime.trust import record
from maskrt.runtime.trust.keys import read_public
from maskrt.runtime.trust.signed import SIGNATURE, STATEMENT, _secret_key, find_signed

from ..runtime.trust import minisign_wrote
from ..runtime.trust.bundles import make
from .damage import as_bytes, as_json, as_text, either
from .reader import Reader

__all__ = ["TRUST_READERS"]


def _find(statement: bytes, signature: bytes, folder: Path) -> object:
    bundle = make(folder / "b.maskrt")
    (bundle.path / STATEMENT).parent.mkdir()
    (bundle.path / STATEMENT).write_bytes(statement)
    (bundle.path / SIGNATURE).write_bytes(signature)
    (folder / "k.pub").write_text(minisign_wrote.PUBLIC)
    return find_signed(bundle, folder / "k.pub")


def _read_signature(data: bytes, folder: Path) -> object:
    return _find(minisign_wrote.MANIFEST.encode(), data, folder)


def _read_statement(data: bytes, folder: Path) -> object:
    """Read a manifest that the trusted key itself has signed, whatever it says."""
    (folder / "s.key").write_text(minisign_wrote.SECRET)
    signature = _secret_key(folder / "s.key", None).sign(data, prehash=True, trusted_comment="x")
    return _find(data, bytes(signature) + b"\n", folder)


def _read_public(data: bytes, folder: Path) -> object:
    (folder / "k.pub").write_bytes(data)
    return read_public(folder / "k.pub")


def _read_secret(data: bytes, folder: Path) -> object:
    (folder / "s.key").write_bytes(data)
    return _secret_key(folder / "s.key", None)


def _entries() -> list[bytes]:
    entry = {
        "format_version": 1, "sha256": "0" * 64, "target": "rtx", "builder": "tensorrt_rtx",
        "builder_version": "1.7.1", "version_compatible": False, "built": "2026-11-29T10:00:00Z",
        "maskrt": "0.1.0",
    }  # fmt: skip
    return [json.dumps(entry).encode()]


def _read_entry(data: bytes, folder: Path) -> None:
    (folder / "entry.json").write_bytes(data)
    entry = record._read(folder / "entry.json")
    assert entry is None or isinstance(entry, dict)


_TEXT = either(as_text, as_bytes)

TRUST_READERS = [
    Reader("signature", lambda: [minisign_wrote.SIGNATURE.encode(), minisign_wrote.LEGACY.encode()],
           _read_signature, _TEXT, cost=25, needs="minisign"),
    Reader("signed manifest", lambda: [minisign_wrote.MANIFEST.encode()], _read_statement, as_json,
           cost=25, needs="minisign"),
    Reader("public key", lambda: [minisign_wrote.PUBLIC.encode()], _read_public, _TEXT,
           needs="minisign"),
    Reader("secret key", lambda: [minisign_wrote.SECRET.encode()], _read_secret, _TEXT,
           needs="minisign"),
    Reader("record of builds", _entries, _read_entry, as_json),
]  # fmt: skip
