"""COCO's compressed run lengths read back, thousands of masks at once, and none of them believed.

The other way of `rle.py`, whose opening tells the format. Every step is one of NumPy's over all the
characters: the groups of five bits of a number are added up, its sign is extended, and what was
written as the difference from the number two before becomes a running sum over every second one.

A text is valid if its characters are of the 64 that there are, each of its numbers ends, has at
most six groups (no mask that is read has more than 2^28 pixels) and is no less than 0, and if all
of them add up to the pixels of the mask. Other readers stop at the text's end or at a run of
length 0, or do not stop, so nothing else may be handed on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["MOST_PIXELS", "Runs", "read_runs"]

MOST_PIXELS = 1 << 28
_MOST_GROUPS = 6
_AT_ONCE = 1 << 16  # characters


@dataclass(frozen=True)
class Runs:
    """The runs of N masks.

    Attributes:
        valid: bool `[N]`; what else is said of a mask that is not valid means nothing.
        plain: bool `[N]`: no run but the first is empty.
        lengths: int64 `[M]`: the lengths of all runs, one mask behind the other, zeros first.
        starts: int64 `[N + 1]`: mask i has the runs `starts[i]` to `starts[i + 1]`.
    """

    valid: np.ndarray
    plain: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray

    def of(self, index: int) -> np.ndarray:
        """Return the run lengths of one mask."""
        return self.lengths[self.starts[index] : self.starts[index + 1]]


def read_runs(texts: Sequence[bytes], pixels: Sequence[int] | np.ndarray) -> Iterator[Runs]:
    """Yield the runs of `texts`, in order, some masks at a time.

    Args:
        texts: compressed run lengths; any bytes at all.
        pixels: how many pixels each mask has.
    """
    wanted = np.asarray(pixels, np.int64)
    start, characters = 0, 0
    for stop, text in enumerate(texts, 1):
        characters += len(text)
        if characters >= _AT_ONCE or stop == len(texts):
            yield _read(texts[start:stop], wanted[start:stop])
            start, characters = stop, 0


def _read(texts: Sequence[bytes], pixels: np.ndarray) -> Runs:
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    groups = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(48)
    valid = (sizes > 0) & (pixels > 0) & (pixels <= MOST_PIXELS)
    if not len(groups):
        return Runs(valid, valid, np.zeros(0, np.int64), np.zeros(len(texts) + 1, np.int64))
    text_of = np.repeat(np.arange(len(texts)), sizes)
    ends = (groups & 32) == 0
    last = (np.cumsum(sizes) - 1)[sizes > 0]
    valid[text_of[groups > 63]] = False
    valid[text_of[last[~ends[last]]]] = False
    ends[last] = True  # whatever it says, so that no number reaches into the next text
    numbers, count = _numbers(groups, np.flatnonzero(ends))
    owner = text_of[ends]
    valid[owner[count > _MOST_GROUPS]] = False
    each = np.bincount(owner, minlength=len(texts))
    starts = np.concatenate([[0], np.cumsum(each)])
    lengths = _summed(numbers, owner, starts)
    wrong = (lengths < 0) | (lengths > pixels[owner])
    valid[owner[wrong]] = False
    lengths[wrong] = 0  # so that no sum overflows
    total = np.diff(np.concatenate([[0], np.cumsum(lengths)])[starts])
    valid &= (total == pixels) & (each <= pixels + 1)
    plain = valid.copy()
    later = np.ones(len(lengths), bool)
    later[starts[:-1][each > 0]] = False
    plain[owner[later & (lengths == 0)]] = False
    return Runs(valid, plain, lengths, starts)


def _numbers(groups: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers that end with the groups `stops`, int64, and how many groups each has."""
    starts = np.concatenate([[0], stops[:-1] + 1])
    count = stops - starts + 1
    numbers = (groups[starts] & 31).astype(np.int64)
    longer = np.flatnonzero(count > 1)
    for place in range(1, _MOST_GROUPS):
        numbers[longer] |= (groups[starts[longer] + place] & 31).astype(np.int64) << (5 * place)
        longer = longer[count[longer] > place + 1]
    negative = (groups[stops] & 16) != 0
    numbers[negative] -= np.int64(1) << (5 * np.minimum(count[negative], _MOST_GROUPS))
    return numbers, count


def _summed(numbers: np.ndarray, owner: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the lengths: from a text's fourth number on, the one two before is added."""
    place = np.arange(len(numbers)) - starts[owner]
    lengths = numbers.copy()
    for chain in ((place & 1) == 1, ((place & 1) == 0) & (place > 0)):
        of = owner[chain]
        total = np.concatenate([[0], np.cumsum(numbers[chain])])
        each = np.bincount(of, minlength=len(starts) - 1)
        lengths[chain] = total[1:] - total[np.cumsum(each) - each][of]
    return lengths
