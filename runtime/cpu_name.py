"""The name of this machine's CPU."""

import platform
from pathlib import Path

__all__ = ["cpu_name"]

_CPUINFO = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """Return what Linux calls the CPU, or the architecture where it has no name for it."""
    text = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.is_file() else ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return f"this {platform.machine() or 'unknown'} CPU"
