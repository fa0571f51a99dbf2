"""Segmentations of annotations: polygons and both kinds of RLE, proven and made one.

Whoever wrote the file, no native code sees a segmentation that was not proven here:

    polygons    lists of an even count of numbers, 6 or more, all within three picture sizes of the
                picture; outlines of 256 times the picture's height and width at most
    counts      whole numbers of 0 or more that add up to the picture's pixels
    text        the same after it is decoded by our own code (`core/rle_text.py`)

so the memory that one takes is bounded by the picture. Polygons become compressed RLE as
pycocotools does it (`annToRLE`).
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...core import InputError
from ...core.rle import compressed, merged_runs
from ...core.rle_text import MOST_PIXELS, read_runs
from .coco import CocoDataset

__all__ = ["provable", "proven_segmentations", "truth_rle"]

_AWAY = 3  # picture sizes that a polygon may lie outside of the picture
_LONGEST = 256  # picture heights and widths that an outline may be long
_AT_ONCE = 1 << 18  # points
_MERGED = 64  # polygons that are merged at a time: merging n one by one takes n² steps

Size = tuple[int, int]


def truth_rle(coco_mask: Any, segmentation: Any, size: Size) -> dict[str, Any]:
    """Return compressed RLE of a proven segmentation in a picture of `(height, width)`."""
    if not isinstance(segmentation, list):
        text = isinstance(segmentation["counts"], str)
        return segmentation if text else coco_mask.frPyObjects(segmentation, *size)
    parts = coco_mask.frPyObjects(segmentation, *size)
    while len(parts) > _MERGED:
        groups = range(0, len(parts), _MERGED)
        parts = [coco_mask.merge(parts[start : start + _MERGED]) for start in groups]
    return coco_mask.merge(parts)


def proven_segmentations(dataset: CocoDataset) -> CocoDataset:
    """Return the data set with every segmentation proven: polygons, or RLE in its plain form.

    Raises:
        InputError: an annotation has no segmentation that can be read.
    """
    sizes = {image.id: image.size for image in dataset.images}
    entries = dataset.annotations
    shown = [entry["segmentation"] for entry in entries]
    proven = provable(shown, [sizes[entry["image_id"]] for entry in entries])
    bad = [entry for entry, found in zip(entries, proven, strict=True) if found is None]
    if bad:
        raise InputError(
            f"{len(bad)} of the {len(entries)} annotations of {dataset.source} have no valid "
            f"segmentation, the first is in picture {bad[0]['image_id']}: mend them (polygons, or "
            "RLE of the picture's size), or check a box-only model."
        )
    changed = any(found is not own for found, own in zip(proven, shown, strict=True))
    if not changed:
        return dataset
    pairs = zip(entries, proven, strict=True)
    made = tuple({**entry, "segmentation": found} for entry, found in pairs)
    return replace(dataset, annotations=made)


def provable(segmentations: Sequence[Any], sizes: Sequence[Size]) -> list[Any]:
    """Return the segmentations as they may be handed on, and None for each that may not.

    Args:
        segmentations: whatever stands in a file.
        sizes: `(height, width)` of the picture of each.
    """
    proven: list[Any] = [None] * len(segmentations)
    kinds: tuple[tuple[Callable[[Any], bool], _Proof], ...] = (
        (_is_polygons, _polygons),
        (_is_text, _texts),
        (_is_counts, _counts),
    )
    possible = [_is_size(size) for size in sizes]
    for belongs, proof in kinds:
        own = [
            index
            for index, segmentation in enumerate(segmentations)
            if possible[index] and belongs(segmentation)
        ]
        found = proof([segmentations[i] for i in own], [sizes[i] for i in own])
        for index, one in zip(own, found, strict=True):
            proven[index] = one
    return proven


_Proof = Callable[[list[Any], list[Size]], Iterator[Any]]


def _is_size(size: Size) -> bool:
    return min(size) > 0 and size[0] * size[1] <= MOST_PIXELS


def _is_polygons(segmentation: Any) -> bool:
    if type(segmentation) is not list or not segmentation:
        return False
    return all(
        type(one) is list and len(one) >= 6 and len(one) % 2 == 0 and _are_numbers(one)
        for one in segmentation
    )


def _are_numbers(values: list[Any]) -> bool:
    return {float, int}.issuperset(map(type, values))


def _is_text(segmentation: Any) -> bool:
    if type(segmentation) is not dict or type(segmentation.get("counts")) is not str:
        return False
    return segmentation["counts"].isascii()


def _is_counts(segmentation: Any) -> bool:
    if type(segmentation) is not dict or type(segmentation.get("counts")) is not list:
        return False
    return _are_numbers(segmentation["counts"])


def _polygons(given: list[Any], sizes: list[Size]) -> Iterator[Any]:
    """Yield each list of polygons whose numbers lie near the picture and whose outline is short."""
    start, points = 0, 0
    for stop, polygons in enumerate(given, 1):
        points += sum(map(len, polygons)) // 2
        if points >= _AT_ONCE or stop == len(given):
            some = given[start:stop]
            good = _near_and_short(some, np.array(sizes[start:stop], np.float64))
            yield from (one if fine else None for one, fine in zip(some, good, strict=True))
            start, points = stop, 0


def _near_and_short(given: list[Any], sizes: np.ndarray) -> list[bool]:
    lengths = np.array([len(one) // 2 for polygons in given for one in polygons])
    owner = np.repeat(np.arange(len(given)), [len(polygons) for polygons in given])
    points = _floats(itertools.chain.from_iterable(itertools.chain.from_iterable(given)))
    points = points.reshape(-1, 2)
    of = np.repeat(owner, lengths)
    sides = sizes[of][:, ::-1]
    near = ((points >= -_AWAY * sides) & (points <= (1 + _AWAY) * sides)).all(axis=1)
    valid = np.ones(len(given), bool)
    valid[of[~near]] = False
    points[~near] = 0  # they may not even be finite
    starts = np.cumsum(lengths) - lengths
    following = np.arange(1, len(points) + 1)
    following[starts + lengths - 1] = starts  # a polygon is closed
    steps = np.abs(points[following] - points).max(axis=1) + 1
    outline = np.bincount(of, steps, minlength=len(given))
    return (valid & (outline <= _LONGEST * sizes.sum(axis=1))).tolist()


def _floats(numbers: Iterator[Any]) -> np.ndarray:
    """Return float64; an integer that is beyond it is no number of a polygon."""
    listed = list(numbers)
    try:
        return np.array(listed, np.float64)
    except OverflowError:
        return np.array([_float(number) for number in listed], np.float64)


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return np.nan


def _texts(given: list[Any], sizes: list[Size]) -> Iterator[Any]:
    """Yield each text that decodes to the picture's pixels; one with empty runs is written anew."""
    texts = [one["counts"].encode("ascii") for one in given]
    entries = zip(given, sizes, strict=True)
    for runs in read_runs(texts, [height * width for height, width in sizes]):
        for index, (valid, plain) in enumerate(zip(runs.valid, runs.plain, strict=True)):
            segmentation, size = next(entries)
            if not valid or not _says(segmentation, size):
                yield None
            elif plain:
                yield segmentation
            else:
                text = compressed(merged_runs(runs.of(index)))
                yield {"size": list(size), "counts": text}


def _counts(given: list[Any], sizes: list[Size]) -> Iterator[Any]:
    """Yield each list of counts that add up to the picture's pixels, without empty runs."""
    for segmentation, size in zip(given, sizes, strict=True):
        pixels = size[0] * size[1]
        counts = segmentation["counts"]
        fits = len(counts) <= pixels + 1 and _says(segmentation, size)
        lengths = _whole(counts, pixels) if fits else None
        if lengths is None or lengths.sum() != pixels:
            yield None
        elif (lengths[1:] > 0).all():
            yield segmentation
        else:
            yield {"size": list(size), "counts": merged_runs(lengths).tolist()}


def _whole(counts: list[Any], most: int) -> np.ndarray | None:
    """Return int64 of whole numbers of 0 to `most`; None where one is another."""
    numbers = np.array(counts)
    if numbers.dtype.kind not in "iuf" or not ((numbers >= 0) & (numbers <= most)).all():
        return None
    lengths = numbers.astype(np.int64)
    return lengths if (lengths == numbers).all() else None


def _says(segmentation: dict[str, Any], size: Size) -> bool:
    """Whether it says that it has the size of its picture."""
    said = segmentation.get("size")
    return type(said) is list and said == list(size) and {int}.issuperset(map(type, said))
