"""Progress: what long work reports while it runs, and how it stays silent when nobody listens."""

from collections.abc import Callable

__all__ = ["Progress", "silent"]

Progress = Callable[[str, int, int], None]
"""`progress(stage, done, total)`: 0 done announces a stage, `total` done ends it. Never raises."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""
