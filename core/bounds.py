"""Bounds of what a manifest and the other files of a bundle may say, in one place.

They are those of what maskrt makes: a value outside was not written by it, and would cost memory or
fail deep inside. Whoever makes the values (`InputSpec`) holds them against the same.
"""

from .typed import Within

__all__ = [
    "BATCH", "BYTE", "CLASSES", "COUNT", "ENGINE_BYTES", "FORMAT_VERSIONS", "LENGTH",
    "MILLISECONDS", "NAME", "POINTS", "SECONDS", "SIDE", "SM",
]  # fmt: skip

SIDE = Within(32, 8192)
"""Pixels of the input's height or width."""
BATCH = Within(1, 1024)
"""Pictures a run."""
BYTE = Within(0, 255)
"""A channel of `pad_value`."""
LENGTH = Within(0, 1 << 20)
"""Elements of an output along one axis: detections, mask rows, …"""
CLASSES = Within(0, 1 << 16)
"""Class names, the background included."""
NAME = Within(0, 1 << 12)
"""Letters of a name or sentence."""
COUNT = Within(0, 1 << 40)
"""How many there are of something."""
ENGINE_BYTES = Within(0, 1 << 44)
"""Bytes of an engine, or that a frame moves."""
SECONDS = Within(0, 1e9)
"""How long something took."""
MILLISECONDS = Within(0, 1e12)
"""How long a stage took."""
POINTS = Within(-200, 200)
"""AP, from 0 to 100, and differences of it."""
SM = Within(10, 999)
"""A compute capability without its point."""
FORMAT_VERSIONS = Within(0, 1 << 20)
"""Format versions, of which each reader knows a few."""
