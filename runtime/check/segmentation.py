"""Segmentations of annotations: polygons and both kinds of RLE, checked and made one.

Polygons and uncompressed RLE become compressed RLE as pycocotools does it (`annToRLE`).
"""

from typing import Any

from ...core import InputError
from .coco import CocoDataset

__all__ = ["check_segmentations", "truth_rle"]


def truth_rle(coco_mask: Any, segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Return compressed RLE of an annotation's segmentation in a picture of `(height, width)`."""
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, *size)
    return segmentation


def check_segmentations(dataset: CocoDataset) -> None:
    """Raise `InputError` unless every annotation has a segmentation that can be read."""
    sizes = {image.id: list(image.size) for image in dataset.images}
    entries = dataset.annotations
    bad = [e for e in entries if not _is_segmentation(e["segmentation"], sizes[e["image_id"]])]
    if bad:
        raise InputError(
            f"{len(bad)} of the {len(entries)} annotations of {dataset.source} have no valid "
            f"segmentation, the first is in picture {bad[0]['image_id']}: mend them (polygons, or "
            "RLE of the picture's size), or check a box-only model."
        )


def _is_segmentation(segmentation: Any, size: list[int]) -> bool:
    """Whether pycocotools can read it: polygons of three points or more, or RLE of that size."""
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if segmentation.get("size") != size or not counts:
            return False
        return not isinstance(counts, list) or sum(counts) == size[0] * size[1]
    if not isinstance(segmentation, list) or not segmentation:
        return False
    return all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in segmentation)
