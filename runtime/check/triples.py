"""A picture three times: as annotated, as the reference and as the engine see it.

Pixels are kept once, as a JPEG no larger than a screen shows, and instances as outlines, so a page
can filter, zoom and caption them. What became of an instance is a word:

    matched      both sides have it, under one label
    missed       the reference alone has it
    invented     the engine alone has it
    relabelled   both have it, under different labels
    annotated    it is an annotation
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core import Instances, require
from ...core.masks import Crop, crops_of
from ...core.outline import polygons
from .agreement import PictureAgreement
from .segmentation import truth_rle

__all__ = ["Shape", "Triple", "make_triple"]

_LONGEST = 640  # pixels
_QUALITY = 78
_OUTLINE = 0.6  # pixels of the small picture that an outline may be wrong by
_FAINTEST = 0.05
CONFIDENT = 0.5


@dataclass(frozen=True)
class Shape:
    """One instance, in pixels of the small picture.

    Attributes:
        label: the model's number.
        name: the class's.
        score: 0 to 1; None of an annotation.
        box: xyxy.
        rings: outlines of the mask, float32 `[K, 2]` each; empty without a mask.
        fate: a word of the module's text.
        other: the name under which the other side has it, if it is relabelled.
    """

    label: int
    name: str
    score: float | None
    box: tuple[float, float, float, float]
    rings: tuple[np.ndarray, ...]
    fate: str
    other: str = ""


@dataclass(frozen=True)
class Triple:
    """One picture of the gallery.

    Attributes:
        name: the file's.
        size: width and height of the small picture.
        jpeg: its pixels.
        truth: the annotations.
        reference: the reference's instances.
        engine: the engine's.
        disagreement: how far the two are apart, see `PictureAgreement.disagreement`.
    """

    name: str
    size: tuple[int, int]
    jpeg: bytes
    truth: tuple[Shape, ...]
    reference: tuple[Shape, ...]
    engine: tuple[Shape, ...]
    disagreement: float = 0.0


def make_triple(
    name: str,
    image: np.ndarray,
    annotations: Sequence[dict[str, Any]],
    categories: dict[int, str],
    expected: Instances,
    found: Instances,
    compared: PictureAgreement,
) -> Triple:
    """Return one picture of the gallery.

    Args:
        name: the file's.
        image: uint8 `[H, W, 3]` RGB.
        annotations: COCO's entries of this picture, as `CocoDataset` has them.
        categories: id → name.
        expected: the reference's instances.
        found: the engine's.
        compared: what `compare_instances(expected, found)` returned.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _LONGEST / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    fates = _fates(expected, found, compared)
    return Triple(
        name,
        size,
        _jpeg(image, size),
        tuple(_truth(annotations, categories, (height, width), scale)),
        tuple(_shapes(expected, fates[0], scale)),
        tuple(_shapes(found, fates[1], scale)),
        compared.disagreement,
    )


_Fate = tuple[str, str]  # the word, and the other side's name


def _fates(
    expected: Instances, found: Instances, compared: PictureAgreement
) -> tuple[list[_Fate], list[_Fate]]:
    sides = [("missed", "")] * len(expected), [("invented", "")] * len(found)
    for a, b in compared.pairs.tolist():
        first, second = int(expected.labels[a]), int(found.labels[b])
        if first == second:
            sides[0][a] = sides[1][b] = ("matched", "")
        else:
            sides[0][a] = ("relabelled", found.name_of(second))
            sides[1][b] = ("relabelled", expected.name_of(first))
    return sides


def _shapes(instances: Instances, fates: list[_Fate], scale: float) -> Iterator[Shape]:
    """Yield what is sure, and of the rest what differs; the surest last, on top."""
    differs = np.array([fate != "matched" for fate, _ in fates], bool)
    least = np.where(differs, _FAINTEST, CONFIDENT)
    kept = np.flatnonzero(instances.scores >= least)[::-1]
    crops: Iterable[Crop | None] = instances.each_crop(kept)
    if instances.masks_source is None:
        crops = [None] * len(kept)
    for index, crop in zip(kept.tolist(), crops, strict=True):
        label = int(instances.labels[index])
        fate, other = fates[index]
        yield Shape(
            label, instances.name_of(label), float(instances.scores[index]),
            _scaled(instances.boxes[index].tolist(), scale), _rings(crop, scale), fate, other,
        )  # fmt: skip


def _truth(
    annotations: Sequence[dict[str, Any]],
    categories: dict[int, str],
    size: tuple[int, int],
    scale: float,
) -> Iterator[Shape]:
    for entry in annotations:
        x, y, width, height = entry["bbox"]
        label = entry["category_id"]
        yield Shape(
            label, categories[label], None, _scaled([x, y, x + width, y + height], scale),
            _annotated(entry["segmentation"], size, scale), "annotated",
            "a crowd" if entry["iscrowd"] else "",
        )  # fmt: skip


def _annotated(segmentation: Any, size: tuple[int, int], scale: float) -> tuple[np.ndarray, ...]:
    if not segmentation:
        return ()
    if isinstance(segmentation, list):
        rings = (np.array(ring, np.float64).reshape(-1, 2) for ring in segmentation)
        return tuple((ring * scale).astype(np.float32) for ring in rings)
    coco_mask = require("pycocotools.mask", "draw annotated masks")
    mask = coco_mask.decode(truth_rle(coco_mask, segmentation, size)).astype(bool)
    return _rings(crops_of(mask[None])[0], scale)


def _rings(crop: Crop | None, scale: float) -> tuple[np.ndarray, ...]:
    """Return the outlines of a mask in the small picture; the walk along them is of that size."""
    return () if crop is None else tuple(polygons(_shrunk(crop, scale), _OUTLINE))


def _shrunk(crop: Crop, scale: float) -> Crop:
    """Return a mask as the small picture's pixels see it, each at its centre."""
    if scale == 1.0:
        return crop
    top, rows = _centres(crop.top, crop.inside.shape[0], scale)
    left, columns = _centres(crop.left, crop.inside.shape[1], scale)
    return Crop(top, left, crop.inside[rows][:, columns])


def _centres(start: int, count: int, scale: float) -> tuple[int, np.ndarray]:
    """Return the first small pixel whose centre lies in `count` pixels from `start`, and all."""
    first = max(0, int(np.ceil(start * scale - 0.5)))
    last = int(np.ceil((start + count) * scale - 0.5))
    places = np.floor((np.arange(first, last) + 0.5) / scale).astype(np.intp) - start
    return first, places[(places >= 0) & (places < count)]


def _scaled(box: list[float], scale: float) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (value * scale for value in box)
    return x0, y0, x1, y1


def _jpeg(image: np.ndarray, size: tuple[int, int]) -> bytes:
    pillow = require("PIL.Image", "put pictures into the report")
    picture = pillow.fromarray(image)
    if picture.size != size:
        picture = picture.resize(size, pillow.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=_QUALITY)
    return buffer.getvalue()
