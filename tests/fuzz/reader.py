"""A reader, as the fuzzer sees it: where its inputs come from, what damages and who reads them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

__all__ = ["Change", "Reader"]

Change = Callable[[bytes, Random], bytes]


@dataclass(frozen=True)
class Reader:
    """One way by which a file, or words, of a stranger come into maskrt.

    Attributes:
        name: as the command line and the table name it.
        seeds: makes valid inputs, once a process.
        read: reads an input; may write into the folder that it is given. Success and `MaskrtError`
            are its only ends.
        change: damages an input.
        cost: about how many milliseconds an input takes, by which a campaign is shared out.
        needs: a package without which it is left out.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], object]
    change: Change
    cost: float = 0.5
    needs: str = ""
