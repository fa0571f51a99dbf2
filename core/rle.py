"""COCO's run-length encoding of a mask, made from its crop.

The picture is read column by column, and the lengths of its runs are listed, alternating from a run
of zeros (which may be empty). `counts` is that list in COCO's compression: from the fourth number
on, the difference from the one two before it; each in groups of five bits, the lowest first, with
32 for "another group follows", and 48 added to make a printable character.

Source: `rleEncode` and `rleToString` in cocoapi, common/maskApi.c.
"""

import numpy as np

from .masks import Crop

__all__ = ["compressed", "encode", "mask_of", "merged_runs", "run_lengths"]


def encode(crop: Crop, size: tuple[int, int]) -> dict[str, object]:
    """Return `{"size": [height, width], "counts": "…"}` for a mask.

    Args:
        crop: the mask.
        size: `(height, width)` of its picture.
    """
    return {"size": [size[0], size[1]], "counts": compressed(run_lengths(crop, size))}


def run_lengths(crop: Crop, size: tuple[int, int]) -> np.ndarray:
    """Return the lengths of the runs of the whole picture, int64, zeros first."""
    height, width = size
    rows, columns = crop.inside.shape
    # Where a column changes, zeros above and below it; row by row, as a crop lies in memory.
    changes = np.zeros((rows + 1, columns), bool)
    if rows:
        changes[0], changes[rows] = crop.inside[0], crop.inside[-1]
        np.not_equal(crop.inside[1:], crop.inside[:-1], out=changes[1:rows])
    row, column = np.divmod(np.flatnonzero(changes), max(columns, 1))
    places = np.sort((crop.left + column) * height + crop.top + row)
    # Where a column's run ends at the picture's edge and the next one's starts there, it is one.
    joined = np.flatnonzero(places[1:-1:2] == places[2::2]) * 2 + 1
    places = np.delete(places, np.concatenate([joined, joined + 1]))
    ends = np.concatenate([[0], places, [height * width]])
    lengths = np.diff(ends)
    return lengths[:-1] if len(lengths) > 1 and lengths[-1] == 0 else lengths


def mask_of(lengths: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return bool `[height, width]` of run lengths, zeros first, that add up to it."""
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(size[1], size[0]).T


def merged_runs(lengths: np.ndarray) -> np.ndarray:
    """Return the same mask's runs, none of which is empty but the first, if the mask starts so."""
    kept = lengths > 0
    inside = (np.arange(len(lengths)) % 2 == 1)[kept]
    starts = np.flatnonzero(np.diff(inside, prepend=not inside[0])) if len(inside) else inside
    runs = np.add.reduceat(lengths[kept], starts) if len(inside) else lengths[:0]
    return np.concatenate([[0], runs]) if len(inside) and inside[0] else runs


def compressed(lengths: np.ndarray) -> str:
    """Return run lengths, int64, in COCO's compression."""
    values = lengths.astype(np.int64)
    values[3:] -= lengths[1:-2]
    characters: list[int] = []
    for value in values.tolist():
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != (-1 if group & 16 else 0)
            characters.append(group + (32 if more else 0) + 48)
    return bytes(characters).decode("ascii")
