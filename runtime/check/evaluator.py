"""COCO evaluation as the pictures come: boxes, masks and boundaries, one picture at a time.

Each picture's detections are assigned at once and leave a few bytes in `Records`; what the numbers
equal, and how far, is in `average_precision.py`. Overlaps are pycocotools' own (`mask.iou`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core import InputError, require
from .assignment import AREAS, Assignment, assign
from .average_precision import IouType, Metrics, class_metrics, summarise
from .boundary import (
    Region,
    boundary_iou,
    boundary_width,
    contour_f,
    contour_tolerance,
    region,
)
from .coco import CocoDataset
from .confusion import Confusion
from .curves import class_curves
from .records import Records, Tables
from .segmentation import proven_segmentations, truth_rle

__all__ = ["CocoEvaluator", "coco_metrics"]

_MOST = 100
_CAN_MATCH = 0.5


class CocoEvaluator:
    """Collects detections, and says how good they are.

    Boundaries need masks, and come with them: `kinds` is `("box",)`, `("box", "mask")` or
    `("box", "mask", "boundary")`.
    """

    def __init__(self, dataset: CocoDataset, kinds: Sequence[IouType]) -> None:
        """Index the annotations.

        Raises:
            MissingDependencyError: pycocotools is not installed.
            InputError: masks are asked for, and an annotation has no valid segmentation.
        """
        self._coco = require("pycocotools.mask", "compute COCO AP")
        if "mask" in kinds or "boundary" in kinds:
            dataset = proven_segmentations(dataset)
        self.dataset = dataset
        self.kinds = tuple(kinds)
        self.detections = 0
        self._records: dict[str, Records] = {kind: Records() for kind in kinds}
        self._confusion = Confusion(dataset.categories)
        self._contours: list[float] = []
        self._found: dict[int, _Outline] = {}  # of the picture and category at hand
        self._true: dict[int, _Outline] = {}
        self._place = {key: at for at, key in enumerate(sorted(i.id for i in dataset.images))}
        self._size = {image.id: image.size for image in dataset.images}
        self._truth: dict[int, dict[int, list[dict[str, Any]]]] = {}
        for entry in dataset.annotations:
            classes = self._truth.setdefault(entry["image_id"], {})
            classes.setdefault(entry["category_id"], []).append(entry)
        self._waiting = set(self._place)

    def add(self, image_id: int, entries: Sequence[dict[str, Any]]) -> None:
        """Add all the detections of one picture, as `Instances.to_coco` makes them.

        Raises:
            InputError: a picture that is not in the data set or came already, or a box or score
                that is not a finite number.
        """
        if image_id not in self._waiting:
            why = "came twice" if image_id in self._place else "is not in the data set"
            raise InputError(f"picture {image_id} {why}: give each picture's results once.")
        self._waiting.discard(image_id)
        _check_finite(image_id, entries)
        self.detections += len(entries)
        truth = self._truth.get(image_id, {})
        self._confusion.add(entries, [entry for of_one in truth.values() for entry in of_one])
        found: dict[int, list[dict[str, Any]]] = {}
        for entry in entries:
            found.setdefault(entry["category_id"], []).append(entry)
        for category in sorted(truth.keys() | (found.keys() & self.dataset.categories.keys())):
            self._assign(image_id, category, found.get(category, []), truth.get(category, []))

    def tables(self, kind: IouType) -> Tables:
        """Return the records of one kind; pictures that were not added have no detections."""
        for image_id in sorted(self._waiting):
            self.add(image_id, ())
        return self._records[kind].tables()

    def metrics(self) -> dict[str, Metrics]:
        """Return the twelve numbers of each kind; the boundaries' have the F-score, `F`, too."""
        found = {kind: summarise(self.tables(kind)) for kind in self.kinds}
        if "boundary" in found:
            mean = 100.0 * float(np.mean(self._contours)) if self._contours else None
            found["boundary"]["F"] = mean
        return {str(kind): values for kind, values in found.items()}

    def class_metrics(self) -> dict[str, dict[str, Metrics]]:
        """Return the same for each category, by its name."""
        names = self.dataset.categories
        return {str(kind): class_metrics(self.tables(kind), names) for kind in self.kinds}

    def curves(self) -> dict[str, dict[str, Any]]:
        """Return the curves of each category by kind and name, boundaries left out."""
        names = self.dataset.categories
        return {k: class_curves(self.tables(k), names) for k in self.kinds if k != "boundary"}

    def confusion(self) -> dict[str, Any]:
        """Return the confusion matrix of the labels, see `confusion.py`."""
        for image_id in sorted(self._waiting):
            self.add(image_id, ())
        return self._confusion.to_json()

    def _assign(
        self,
        image_id: int,
        category: int,
        entries: list[dict[str, Any]],
        truth: list[dict[str, Any]],
    ) -> None:
        scores = np.array([entry["score"] for entry in entries], np.float64)
        order = np.argsort(-scores, kind="mergesort")[:_MOST]
        found, scores = [entries[i] for i in order], scores[order]
        crowd = np.array([bool(entry["iscrowd"]) for entry in truth], bool)
        areas = np.array([entry["area"] for entry in truth], np.float64)
        overlaps = self._overlaps(image_id, found, truth, crowd)
        for kind, (ious, sizes) in overlaps.items():
            assigned = assign(ious, sizes, areas, crowd)
            self._records[kind].add(self._place[image_id], category, scores, assigned)
            if truth:
                counts = [_counted(areas, crowd, limits) for limits in AREAS.values()]
                self._records[kind].add_truth(self._place[image_id], category, np.array(counts))
            if kind == "mask" and "boundary" in self.kinds:
                self._compare_contours(image_id, crowd, assigned)

    def _overlaps(
        self,
        image_id: int,
        found: list[dict[str, Any]],
        truth: list[dict[str, Any]],
        crowd: np.ndarray,
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return, for each kind, the IoUs `[N, G]` and the detections' areas."""
        shape = (len(found), len(truth))
        boxes = np.array([entry["bbox"] for entry in found], np.float64).reshape(-1, 4)
        true_boxes = np.array([entry["bbox"] for entry in truth], np.float64).reshape(-1, 4)
        ious = self._iou(boxes, true_boxes, crowd, shape)
        overlaps = {"box": (ious, boxes[:, 2] * boxes[:, 3])}
        if "mask" not in self.kinds:
            return overlaps
        size = self._size[image_id]
        rles = [entry["segmentation"] for entry in found]
        true_rles = [truth_rle(self._coco, entry["segmentation"], size) for entry in truth]
        ious = self._iou(rles, true_rles, crowd, shape)
        areas = np.asarray(self._coco.area(rles), np.float64) if rles else np.zeros(0)
        overlaps["mask"] = (ious, areas)
        if "boundary" in self.kinds:
            overlaps["boundary"] = (self._boundary(ious, rles, true_rles, crowd, size), areas)
        return overlaps

    def _iou(self, found: Any, truth: Any, crowd: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        if not shape[0] or not shape[1]:
            return np.zeros(shape)
        return np.asarray(self._coco.iou(found, truth, crowd.astype(np.uint8)), np.float64)

    def _boundary(
        self,
        ious: np.ndarray,
        rles: list[Any],
        true_rles: list[Any],
        crowd: np.ndarray,
        size: tuple[int, int],
    ) -> np.ndarray:
        """Return the smaller of mask IoU and Boundary IoU; pairs that cannot match keep theirs."""
        rows, columns = np.nonzero(ious >= _CAN_MATCH)
        self._found = self._outlines(rles, rows, size)
        self._true = self._outlines(true_rles, columns, size)
        smaller = ious.copy()
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            pair = (self._found[row].band, self._true[column].band)
            value = boundary_iou(*pair, crowd=bool(crowd[column]))
            smaller[row, column] = min(ious[row, column], value)
        return smaller

    def _outlines(
        self, rles: list[Any], wanted: np.ndarray, size: tuple[int, int]
    ) -> dict[int, "_Outline"]:
        width = boundary_width(size)
        masks = {index: self._decoded(rles[index]) for index in set(wanted.tolist())}
        return {
            index: _Outline(region(mask, width), region(mask, 1)) for index, mask in masks.items()
        }

    def _decoded(self, rle: Any) -> Region:
        """Return a mask; pycocotools says where it lies without a look at each pixel."""
        x, y, width, height = (int(value) for value in self._coco.toBbox(rle))
        inside = self._coco.decode(rle)[y : y + height, x : x + width]
        return Region(y, x, np.ascontiguousarray(inside).view(bool))

    def _compare_contours(self, image_id: int, crowd: np.ndarray, assigned: Assignment) -> None:
        """Take the F-score of each annotation and the detection that has it at mask IoU 0.5."""
        tolerance = contour_tolerance(self._size[image_id])
        for index, partner in enumerate(assigned.partner.tolist()):
            if partner >= 0 and not crowd[partner]:
                pair = (self._found[index].contour, self._true[partner].contour)
                self._contours.append(contour_f(*pair, tolerance))


class _Outline(NamedTuple):
    """The boundary region of a mask, and its contour."""

    band: Region
    contour: Region


def coco_metrics(
    results: Sequence[dict[str, Any]], dataset: CocoDataset, iou_type: IouType
) -> Metrics:
    """Return COCO's twelve numbers, 0 to 100, of all results of a data set at once.

    Args:
        results: COCO result entries, as `Instances.to_coco` makes them.
        dataset: what they are measured against.
        iou_type: `"box"`, `"mask"` or `"boundary"`.
    """
    kinds: tuple[IouType, ...] = ("box", "mask", "boundary")
    evaluator = CocoEvaluator(dataset, kinds[: kinds.index(iou_type) + 1])
    pictures: dict[int, list[dict[str, Any]]] = {}
    for entry in results:
        pictures.setdefault(entry["image_id"], []).append(entry)
    for image_id, entries in pictures.items():
        evaluator.add(image_id, entries)
    return evaluator.metrics()[iou_type]


def _counted(areas: np.ndarray, crowd: np.ndarray, limits: tuple[float, float]) -> int:
    return int(np.count_nonzero(~crowd & (areas >= limits[0]) & (areas <= limits[1])))


def _check_finite(image_id: int, entries: Sequence[dict[str, Any]]) -> None:
    for entry in entries:
        if not np.isfinite((*entry["bbox"], entry["score"])).all():
            raise InputError(
                f"a result of picture {image_id} has a box or score that is not a finite number "
                f"(score {entry['score']}): its precision does not carry the model, so build the "
                "engine at another one."
            )
