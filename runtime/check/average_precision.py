"""COCO average precision, computed by pycocotools, in percent.

AP is the mean over IoU 0.50:0.95 and over categories, at most 100 detections a picture. S, M, L are
objects below 32^2, below 96^2, and larger, in pixels. Where the annotations hold no object of a
size, its AP is None (pycocotools says -1). Two traps of pycocotools are stepped around here:
    * with a `bbox` in a result, mask AP by size would go by the box's area: it is left out;
    * `loadRes` fails on an empty list, so zero detections are indexed without it: AP is 0.0.

Source: https://cocodataset.org/#detection-eval; pycocotools/cocoeval.py.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Literal

from ...core import InputError, require
from .coco import CocoDataset

__all__ = ["METRICS", "IouType", "Metrics", "coco_metrics"]

IouType = Literal["box", "mask"]
Metrics = dict[str, float | None]

METRICS = ("AP", "AP50", "AP75", "APS", "APM", "APL")
"""Names of the numbers, in the order in which pycocotools has them."""

_PYCOCOTOOLS_TYPE = {"box": "bbox", "mask": "segm"}


def coco_metrics(
    results: Sequence[dict[str, Any]], dataset: CocoDataset, iou_type: IouType
) -> Metrics:
    """Return COCO's six average precisions, 0 to 100 (see the module for None).

    Args:
        results: COCO result entries, as `Instances.to_coco` makes them.
        dataset: what they are measured against.
        iou_type: `"box"` or `"mask"`.

    Raises:
        MissingDependencyError: pycocotools is not installed.
        InputError: mask AP of a data set in which an annotation has no segmentation.
    """
    pycocotools = require("pycocotools.coco", "compute COCO AP")
    cocoeval = require("pycocotools.cocoeval", "compute COCO AP")
    if iou_type == "mask":
        _check_segmentations(dataset)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _index(pycocotools, dataset, dataset.annotations)
        found = _detections(pycocotools, dataset, truth, results, iou_type)
        evaluation = cocoeval.COCOeval(truth, found, _PYCOCOTOOLS_TYPE[iou_type])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = evaluation.stats[: len(METRICS)]
    return {
        name: None if value < 0 else 100.0 * float(value)
        for name, value in zip(METRICS, values, strict=True)
    }


def _detections(
    pycocotools: Any,
    dataset: CocoDataset,
    truth: Any,
    results: Sequence[dict[str, Any]],
    iou_type: IouType,
) -> Any:
    if not results:
        return _index(pycocotools, dataset, ())
    unused = "segmentation" if iou_type == "box" else "bbox"
    return truth.loadRes([{k: v for k, v in r.items() if k != unused} for r in results])


def _index(pycocotools: Any, dataset: CocoDataset, entries: Sequence[dict[str, Any]]) -> Any:
    """Return the pycocotools index of some entries; it writes to them, so they are copied."""
    index = pycocotools.COCO()
    index.dataset = {
        "images": [{"id": i.id, "height": i.size[0], "width": i.size[1]} for i in dataset.images],
        "categories": [{"id": key, "name": name} for key, name in dataset.categories.items()],
        "annotations": [dict(entry) for entry in entries],
    }
    index.createIndex()
    return index


def _check_segmentations(dataset: CocoDataset) -> None:
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
        return bool(segmentation.get("counts")) and segmentation.get("size") == size
    if not isinstance(segmentation, list) or not segmentation:
        return False
    return all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in segmentation)
