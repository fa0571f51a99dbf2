"""One small annotated set, as nine tools write it: COCO files with what each puts beside COCO.

Read from the tools' own sources (CVAT by way of Datumaro's writer, LabelMe's labelme2coco,
panopticapi's converter, SAHI's `Coco`, coco-annotator's export), from LVIS v1's and Roboflow's
files, and from VisDrone's text files as its converters number them. Every number is drawn here.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

__all__ = ["CLASSES", "EXPORTS", "Thing", "things"]

CLASSES = ("disc", "crate", "ring")
HEIGHT, WIDTH, PICTURES = 96, 128, 4


class Thing(NamedTuple):
    """An object: picture, class, outlines in pixels, and whether it is a crowd."""

    picture: int
    kind: int
    outlines: list[list[float]]
    crowd: bool

    @property
    def rle(self) -> dict[str, Any]:
        """Compressed RLE as pycocotools gives it, its text in bytes."""
        parts = coco_mask.frPyObjects(self.outlines, HEIGHT, WIDTH)
        found: dict[str, Any] = coco_mask.merge(parts)
        return found

    @property
    def text(self) -> dict[str, Any]:
        """The same as it stands in JSON."""
        return {"size": [HEIGHT, WIDTH], "counts": self.rle["counts"].decode()}

    @property
    def counts(self) -> dict[str, Any]:
        """The same as run lengths, the first of background."""
        plane = coco_mask.decode(self.rle).ravel(order="F")
        edges = np.flatnonzero(np.diff(plane, prepend=0)).tolist()
        ends = [0, *edges, plane.size]
        return {"counts": np.diff(ends).tolist(), "size": [HEIGHT, WIDTH]}

    @property
    def area(self) -> float:
        """Pixels."""
        return float(coco_mask.area(self.rle))

    @property
    def bbox(self) -> list[float]:
        """x, y, width, height."""
        return [float(v) for v in coco_mask.toBbox(self.rle)]


def things(seed: int = 0) -> list[Thing]:
    """Return the objects, some in two parts, some crowds, the first class rarer."""
    dice = np.random.default_rng(seed)
    found = []
    for picture in range(PICTURES):
        for number in range(7):
            parts = [_ellipse(dice) for _ in range(2 if number == 3 else 1)]
            kind = int(dice.choice(3, p=(0.2, 0.4, 0.4)))
            found.append(Thing(picture, kind, parts, crowd=number == 6))
    return found


def _ellipse(dice: np.random.Generator) -> list[float]:
    x, y = dice.uniform((14, 12), (WIDTH - 14, HEIGHT - 12))
    wide, high = dice.uniform(5, 24, 2)
    turns = [math.tau * step / 10 for step in range(10)]
    points = [(x + wide * math.cos(t), y + high * math.sin(t)) for t in turns]
    return [round(float(np.clip(v, 0, most)), 2) for point in points
            for v, most in zip(point, (WIDTH, HEIGHT), strict=True)]  # fmt: skip


def _picture(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "height": HEIGHT, "width": WIDTH, **more}


def _datumaro(shown: list[Thing]) -> dict[str, Any]:
    """Masks are crowds and run lengths, all else is outlines; dates and licences are zeros."""
    images = [
        _picture(n + 1, file_name=f"{n:06}.png", license=0, flickr_url="", coco_url="",
                 date_captured=0) for n in range(PICTURES)
    ]  # fmt: skip
    annotations = [
        {
            "id": n, "image_id": one.picture + 1, "category_id": one.kind + 1,
            "segmentation": one.counts if one.crowd else one.outlines, "area": one.area,
            "bbox": [round(v, 2) for v in one.bbox], "iscrowd": int(one.crowd),
        } for n, one in enumerate(shown, 1)
    ]  # fmt: skip
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": dict.fromkeys(
            ("contributor", "date_created", "description", "url", "version", "year"), ""
        ),
        "categories": [
            {"id": n, "name": name, "supercategory": ""} for n, name in enumerate(CLASSES, 1)
        ],
        "images": images,
        "annotations": annotations,
    }


def _cvat(shown: list[Thing]) -> dict[str, Any]:
    """Datumaro's, with attributes; file names keep the folders of the task."""
    made = _datumaro(shown)
    for image in made["images"]:
        image["file_name"] = f"street/day 1/{image['file_name']}"
    for entry in made["annotations"]:
        entry["attributes"] = {"occluded": bool(entry["id"] % 2), "track_id": None, "colour": "é"}
    return made


def _roboflow(shown: list[Thing]) -> dict[str, Any]:
    """All ids from 0; category 0 is the project, which nothing has; integers where they fit."""
    categories = [{"id": 0, "name": "shapes-x7", "supercategory": "none"}]
    categories += [
        {"id": n, "name": name, "supercategory": "shapes-x7"} for n, name in enumerate(CLASSES, 1)
    ]
    images = [
        _picture(n, license=1, file_name=f"{n}_jpg.rf.{n:032x}.jpg",
                 date_captured="2026-11-01T10:00:00+00:00", extra={"name": f"{n}.jpg"})
        for n in range(PICTURES)
    ]  # fmt: skip
    annotations = [
        {
            "id": n, "image_id": one.picture, "category_id": one.kind + 1,
            "bbox": [int(v) if v == int(v) else v for v in one.bbox], "area": one.area,
            "segmentation": one.outlines, "iscrowd": 0,
        } for n, one in enumerate(shown)
    ]  # fmt: skip
    return {
        "info": {"year": "2026", "version": "3", "description": "Exported from roboflow.com",
                 "contributor": "", "url": "https://public.roboflow.com/",
                 "date_created": "2026-11-01T10:00:00+00:00"},
        "licenses": [{"id": 1, "url": "", "name": "Private"}],
        "categories": categories, "images": images, "annotations": annotations,
    }  # fmt: skip


def _labelme(shown: list[Thing]) -> dict[str, Any]:
    """labelme2coco: ids from 0, `_background_` is category 0, nulls where nothing is known."""
    images = [
        _picture(n, license=0, url=None, file_name=f"JPEGImages/{n}.jpg", date_captured=None)
        for n in range(PICTURES)
    ]
    annotations = [
        {
            "id": n, "image_id": one.picture, "category_id": one.kind + 1,
            "segmentation": one.outlines, "area": one.area, "bbox": one.bbox, "iscrowd": 0,
        } for n, one in enumerate(shown)
    ]  # fmt: skip
    return {
        "info": {"description": None, "url": None, "version": None, "year": 2026,
                 "contributor": None, "date_created": "2026-11-01 10:00:00.000000"},
        "licenses": [{"url": None, "id": 0, "name": None}],
        "type": "instances",
        "images": images,
        "categories": [{"supercategory": None, "id": n, "name": name}
                       for n, name in enumerate(("_background_", *CLASSES))],
        "annotations": annotations,
    }  # fmt: skip


def _lvis(shown: list[Thing]) -> dict[str, Any]:
    """LVIS v1: no file names but addresses, no crowds, large ids with gaps."""
    base = "http://images.cocodataset.org/val2017/"
    images = [
        _picture(397133 + 11 * n, coco_url=f"{base}{397133 + 11 * n:012}.jpg", flickr_url="",
                 date_captured="2013-11-14 17:02:52", license=4,
                 neg_category_ids=[1203, 7], not_exhaustive_category_ids=[])
        for n in range(PICTURES)
    ]  # fmt: skip
    annotations = [
        {
            "area": one.area, "id": 51230 + n, "segmentation": one.outlines,
            "image_id": 397133 + 11 * one.picture, "bbox": one.bbox,
            "category_id": 400 * one.kind + 3,
        } for n, one in enumerate(shown) if not one.crowd
    ]  # fmt: skip
    categories = [
        {
            "id": 400 * n + 3, "name": name, "synset": f"{name}.n.01", "synonyms": [name],
            "def": "a thing", "frequency": "rcf"[n], "image_count": 4, "instance_count": 9,
        } for n, name in enumerate(CLASSES)
    ]  # fmt: skip
    return {"info": {"version": "1.0"}, "licenses": [], "categories": categories,
            "images": images, "annotations": annotations}  # fmt: skip


def _panopticapi(shown: list[Thing]) -> dict[str, Any]:
    """panoptic2detection: RLE text for all, ids from 0 in the file's order, whole boxes."""
    images = [_picture(139 + n, file_name=f"{139 + n:012}.jpg", license=2) for n in range(PICTURES)]
    annotations = [
        {
            "category_id": (1, 44, 90)[one.kind], "iscrowd": int(one.crowd),
            "bbox": [int(v) for v in one.bbox], "area": int(one.area),
            "image_id": 139 + one.picture, "segmentation": one.text, "id": n,
        } for n, one in enumerate(shown)
    ]  # fmt: skip
    categories = [
        {"supercategory": "shape", "id": (1, 44, 90)[n], "name": name}
        for n, name in enumerate(CLASSES)
    ]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations,
            "categories": categories}  # fmt: skip


def _sahi(shown: list[Thing]) -> dict[str, Any]:
    """Categories from 0, each its own supercategory; whole boxes, no licence, no info."""
    images = [{"height": HEIGHT, "width": WIDTH, "id": n + 1,
               "file_name": f"slices/street_{128 * n}_0_{128 * n + 128}_96.png"}
              for n in range(PICTURES)]  # fmt: skip
    annotations = [
        {
            "iscrowd": 0, "image_id": one.picture + 1,
            "bbox": [round(v) for v in one.bbox],
            "segmentation": [[round(v) for v in part] for part in one.outlines],
            "category_id": one.kind, "id": n, "area": int(one.area),
        } for n, one in enumerate(shown, 1)
    ]  # fmt: skip
    categories = [{"id": n, "name": name, "supercategory": name} for n, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _visdrone(shown: list[Thing]) -> dict[str, Any]:
    """Boxes alone, category 0 for regions that are ignored, which are crowds, and an unused one."""
    names = ("ignored regions", *CLASSES, "others")
    images = [
        _picture(n, file_name=f"0000001_{2999 + n:05}_d_000000{n}.jpg") for n in range(PICTURES)
    ]
    annotations = [
        {
            "id": n, "image_id": one.picture, "category_id": 0 if one.crowd else one.kind + 1,
            "bbox": [int(v) for v in one.bbox], "area": int(one.bbox[2]) * int(one.bbox[3]),
            "iscrowd": int(one.crowd), "segmentation": [], "ignore": int(one.crowd),
            "truncation": 0, "occlusion": n % 3,
        } for n, one in enumerate(shown)
    ]  # fmt: skip
    return {"images": images, "annotations": annotations, "type": "instances",
            "categories": [{"id": n, "name": name} for n, name in enumerate(names)]}  # fmt: skip


def _coco_annotator(shown: list[Thing]) -> dict[str, Any]:
    """Truth values for numbers, colours, events, and fields of its own database."""
    images = [
        _picture(
            n + 31, dataset_id=2, category_ids=[5, 6], path=f"/datasets/shapes/{n}.png",
            file_name=f"{n}.png", annotated=False, annotating=[], num_annotations=7, metadata={},
            milliseconds=0, events=[], regenerate_thumbnail=False, is_modified=True,
        ) for n in range(PICTURES)
    ]  # fmt: skip
    annotations = [
        {
            "id": n, "image_id": one.picture + 31, "category_id": one.kind + 5, "dataset_id": 2,
            "segmentation": one.outlines, "area": int(one.area), "bbox": one.bbox,
            "iscrowd": one.crowd, "isbbox": False, "creator": "system", "width": WIDTH,
            "height": HEIGHT, "color": "#1ac0dd", "metadata": {}, "milliseconds": 0, "events": [],
        } for n, one in enumerate(shown, 7)
    ]  # fmt: skip
    categories = [
        {"id": n, "name": name, "supercategory": "", "color": "#e5ae12", "metadata": {},
         "creator": "system", "keypoint_colors": []} for n, name in enumerate(CLASSES, 5)
    ]  # fmt: skip
    return {"images": images, "categories": categories, "annotations": annotations}


EXPORTS: dict[str, Callable[[list[Thing]], dict[str, Any]]] = {
    "CVAT": _cvat,
    "Roboflow": _roboflow,
    "LabelMe": _labelme,
    "LVIS": _lvis,
    "panopticapi": _panopticapi,
    "Datumaro": _datumaro,
    "SAHI": _sahi,
    "VisDrone": _visdrone,
    "coco-annotator": _coco_annotator,
}
