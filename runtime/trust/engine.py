"""Whether an engine that is machine code may be deserialised: asked before anything of it is.

A plan of TensorRT or TensorRT-RTX is code for the GPU, and brings code for the host if it is
version-compatible, so it is opened on somebody's word: this machine's record that it built these
bytes (`record.py`), a signature by a key that the user trusts (`signed.py`), or the user's own, in
that call. The digests in a bundle are no such word, as whoever wrote the engine wrote them, too.

`engine.json` says whether host code is to be let run, and is as little believed: the record has its
own note of that, a signature covers the file, and the user's word covers all.
"""

from pathlib import Path
from typing import TypeAlias

from ...core import Bundle, Precision, Target, UntrustedError, UsageError
from . import record
from .signed import find_signed

__all__ = ["PLAN", "Trust", "check_trusted", "is_code", "why_untrusted"]

Trust: TypeAlias = bool | Path | str
"""True is the user's word; a path is a public key of minisign, whose signature is enough."""

PLAN = "engine.trt"
_DATA = ("onnxruntime", "null")  # backends whose engines are graphs, or nothing


def is_code(target: Target) -> bool:
    """Whether an engine for `target` is machine code: whatever is not known to be data."""
    return target.backend not in _DATA


def check_trusted(
    bundle: Bundle, target: Target, precision: Precision | None, trust: Trust = False
) -> None:
    """Raise `UntrustedError` if nobody who is trusted says where the engine comes from.

    Args:
        bundle: has the engine.
        target: of it; engines that are data are never refused.
        precision: of it; None is the bundle's own.
        trust: see `Trust`.

    Raises:
        InputError: a key cannot be used.
        UsageError: `trust` is something else.
    """
    why = why_untrusted(bundle, target, precision, trust)
    if why:
        raise UntrustedError(
            f"{bundle.engine_folder(target, precision)} in {bundle.path} {why}, and an engine is "
            f"machine code: build it here with {bundle.build_command(target.name, precision)}, or, "
            "if you trust whoever built it, say so with trust=True."
        )


def why_untrusted(
    bundle: Bundle, target: Target, precision: Precision | None, trust: Trust = False
) -> str:
    """Return what is to be said of an engine that nobody vouches for; empty if somebody does.

    The arguments and errors are those of `check_trusted`.
    """
    if not isinstance(trust, bool | str | Path):
        raise UsageError(
            f"trust is {trust!r}, and must be True, False or the path of a public key."
        )
    folder = bundle.engine_folder(target, precision)
    if trust is True or not is_code(target) or f"{folder}/{PLAN}" not in bundle:
        return ""
    info = bundle.read_json(f"{folder}/engine.json")
    built = record.known(bundle.digests[f"{folder}/{PLAN}"])
    brings_host_code = bool((info.get("options") or {}).get("version_compatible"))
    if built is not None and (built.get("version_compatible") is True or not brings_host_code):
        return ""
    why = _not_signed(bundle, folder, trust)
    if not why:
        return ""
    if built is not None:
        return f"was built here without host code, which its engine.json now asks for, {why}"
    return f"was not built on this machine, {why}"


def _not_signed(bundle: Bundle, folder: str, trust: Trust) -> str:
    """Return why no signature covers the engine, or nothing if one does."""
    found = find_signed(bundle, None if isinstance(trust, bool) else trust)
    if isinstance(found, str):
        return found
    for name in (PLAN, "engine.json"):
        if found.differs(bundle, f"{folder}/{name}"):
            return f"its {name} is not the one that the key {found.key} has signed"
    return ""
