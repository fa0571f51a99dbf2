"""A plan that a test writes by hand, noted as what this machine built."""

import hashlib

from maskrt.runtime.trust import record

__all__ = ["note_built"]


def note_built(plan: bytes, target: str = "rtx", *, version_compatible: bool = False) -> None:
    """Note `plan` in the record, as the end of a build does."""
    record.note(
        hashlib.sha256(plan).hexdigest(), target=target, builder="tensorrt_rtx", version="1.7.1",
        version_compatible=version_compatible,
    )  # fmt: skip
